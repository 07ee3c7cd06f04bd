# What every data set of whole frames has in common; a data set adds its root, plane, frame and constants.
data_root = None
plane_rule = 'offset'
subjects = dict(train=None, val=None, test=None)
splits = dict(train='train', val='val', test='test')
input_frame = None
vp_size_px = None
ppm = None
preprocessor = dict(
    type='GazePreprocessor', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channel_order='rgb'
)

face_crop_ratio = 0.0
photometric = dict(type='Photometric', prob=0.0)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='FaceCrop', prob='@face_crop_ratio'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@photometric',
    dict(type='VPProjection', codec='@codec'),
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    dict(type='VPProjection', codec='@codec'),
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]

_dataset = dict(type='GazeDataset', data_root='@data_root', plane_rule='@plane_rule')
_tested = dict(**_dataset, baseline=dict(splits='@splits.train', subjects='@subjects.train'))
_loader = dict(num_workers=4, persistent_workers=True, collate_fn=dict(type='collate_gaze'))
train_dataloader = dict(
    **_loader, batch_size=64, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset, splits='@splits.train', subjects='@subjects.train', pipeline='@train_pipeline',
        seed='@randomness.seed',
    ),
)
val_dataloader = dict(
    **_loader, batch_size=64, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_tested, splits='@splits.val', subjects='@subjects.val', pipeline='@test_pipeline'),
)
test_dataloader = dict(
    **_loader, batch_size=64, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_tested, splits='@splits.test', subjects='@subjects.test', pipeline='@test_pipeline'),
)
val_evaluator = [dict(type='PoGError', ppm='@ppm'), dict(type='AngularError')]
test_evaluator = '@val_evaluator'
