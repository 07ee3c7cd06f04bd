# What data sets of normalised face or eye patches have in common: a gaze vector, no screen. A data set adds its root,
# size and constants; a model adds codec and codecs. For landmark models: labels='landmarks', val_evaluator=[LandmarkError].
labels = 'gaze'
patch = (
    None  # part and normaliser of the pictures on disk, where known: a runtime makes such patches of a camera's frames
)

flip_ratio = 0.0
landmarks = dict(type='PupilLandmarks', part='face')
train_pipeline = [
    dict(type='LoadImage', input_frame='@input_frame'),
    dict(type='RandomFlip', prob='@flip_ratio'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@photometric',
    '@landmarks',
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
test_pipeline = [
    dict(type='LoadImage', input_frame='@input_frame'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@landmarks',
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
val_evaluator = [dict(type='GazeError')]
