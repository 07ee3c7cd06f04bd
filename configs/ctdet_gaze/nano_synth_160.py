# Learns on two CPU cores in minutes: the configuration of `make quickstart`.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adamw_cosine_20e.py',
    '../_base_/datasets/synth_close.py',
    '../_base_/models/ctdet_gaze.py',
]
vp_size_px = (640, 720)
codec = dict(fit='contain')
photometric = dict(prob=0.8)
train_dataloader = dict(num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
model = dict(
    backbone=dict(_delete_=True, type='NanoNet'),
    neck=dict(channels=(64, 48, 32), refine=None),
    heads=dict(heatmap=dict(head_conv=32), offset=dict(head_conv=32)),
)
