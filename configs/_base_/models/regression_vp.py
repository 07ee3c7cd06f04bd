# The point of gaze on the virtual plane as two numbers from the whole frame: the baseline of ctdet_gaze.py.
codec = dict(type='VPPointCodec', input_frame='@input_frame', vp_size_px='@vp_size_px', ppm='@ppm')
codecs = dict(gaze='@codec')
model = dict(
    type='GazeEstimator',
    backbone=dict(type='ResNet', depth=18, pretrained='imagenet'),
    heads=dict(point=dict(type='VPPointHead', loss=dict(type='L1Loss'))),
    codecs='@codecs',
    data_preprocessor='@preprocessor',
)
