# What all data sets have in common: where the rows come from and how they are batched. frames.py and patches.py add pipelines.
data_root = None
plane_rule = 'offset'
subjects = dict(train=None, val=None, test=None)
splits = dict(train='train', val='val', test='test')
input_frame = None
preprocessor = dict(type='GazePreprocessor', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channel_order='rgb')
photometric = dict(type='Photometric', prob=0.0)
# So many unreadable pictures of the training are replaced by their neighbours, each with a warning; one more stops it.
max_bad_images = 0

_dataset = dict(type='GazeDataset', data_root='@data_root', plane_rule='@plane_rule', labels='@labels')
_tested = dict(**_dataset, baseline=dict(splits='@splits.train', subjects='@subjects.train'), pipeline='@test_pipeline')
_loader = dict(batch_size=64, num_workers=4, persistent_workers=True, collate_fn=dict(type='collate_gaze'))
train_dataloader = dict(
    **_loader,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        splits='@splits.train',
        subjects='@subjects.train',
        pipeline='@train_pipeline',
        seed='@randomness.seed',
        max_bad_images='@max_bad_images',
    ),
)
val_dataloader = dict(
    **_loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_tested, splits='@splits.val', subjects='@subjects.val'),
)
test_dataloader = dict(
    **_loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_tested, splits='@splits.test', subjects='@subjects.test'),
)
test_evaluator = '@val_evaluator'
