# Learns on two CPU cores in minutes: the configuration of `make quickstart`.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adamw_cosine_20e.py',
    '../_base_/datasets/synth_close.py',
    '../_base_/models/ctdet_gaze.py',
]
pog_weight = 0.3
train_cfg = dict(max_epochs=6)
codec = dict(fit='contain', activation='softmax', read_out='expectation')
model = dict(
    backbone=dict(_delete_=True, type='NanoNet'),
    neck=dict(channels=(48, 32, 24), refine=None),
    heads=dict(
        heatmap=dict(head_conv=24, loss=dict(type='HeatmapCrossEntropyLoss')),
        offset=dict(head_conv=24),
    ),
)
train_dataloader = dict(batch_size=32, num_workers=1)
auto_scale_lr = dict(base_batch_size=32)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
