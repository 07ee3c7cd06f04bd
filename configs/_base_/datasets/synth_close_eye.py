# The right eyes of synth_close_face.py, 48 x 32 mm at a px per mm.
_base_ = './synth_close_face.py'
normalise = dict(normaliser=dict(focal_px=600, size_px=(48, 32)), part='right_eye')
