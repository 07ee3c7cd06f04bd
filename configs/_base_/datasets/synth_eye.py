# The right eyes of synth_face.py, 45 x 30 mm as patches of SynthesEyes's size.
_base_ = './synth_face.py'
normalise = dict(normaliser=dict(focal_px=1600, size_px=(120, 80)), part='right_eye')
