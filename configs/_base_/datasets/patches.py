# What data sets of normalised face or eye patches have in common: a gaze vector, no screen. A data set adds its root,
# size and constants; a model adds codec and codecs.
labels = 'gaze'

flip_ratio = 0.0
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='RandomFlip', prob='@flip_ratio'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@photometric',
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
val_evaluator = [dict(type='GazeError')]
