# Eight points of the pupil's rim from an eye patch, as heatmaps: PupilNet.
codec = dict(
    type='LandmarkHeatmapCodec',
    input_frame='@input_frame',
    num_landmarks=8,
    stride=1,
    sigma=1.0,
    read_out='soft_argmax',
    temperature=100.0,
)
codecs = dict(landmarks='@codec')
model = dict(
    type='GazeEstimator',
    backbone=dict(type='PupilNet', hourglasses=3),
    heads=dict(landmarks=dict(type='LandmarkHead', num_landmarks='@codec.num_landmarks')),
    codecs='@codecs',
    data_preprocessor='@preprocessor',
)
