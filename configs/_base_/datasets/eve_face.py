# EVE's frames (see eve.py) as face patches, normalised on the fly as ETH-XGaze's; eyes: the overrides of synth_eye.py.
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/eve'
splits = dict(test='val')
normalise = dict(
    type='NormaliseFace', normaliser=dict(focal_px=960, distance_mm=600, size_px=(224, 224), scaling='r'), part='face'
)
input_frame = dict(size='@normalise.normaliser.size_px', pad=0)
landmarks = dict(part='@normalise.part')
train_pipeline = [
    dict(type='LoadImage'),
    '@normalise',
    dict(type='RandomFlip', prob='@flip_ratio'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@photometric',
    '@landmarks',
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
test_pipeline = [
    dict(type='LoadImage'),
    '@normalise',
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@landmarks',
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
