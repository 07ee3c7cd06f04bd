# Learns on two CPU cores in minutes: the direction of the gaze from a small face patch.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adamw_cosine_20e.py',
    '../_base_/datasets/synth_close_face.py',
    '../_base_/models/regression.py',
]
train_cfg = dict(max_epochs=6)
model = dict(backbone=dict(_delete_=True, type='NanoNet'))
train_dataloader = dict(batch_size=32, num_workers=1)
auto_scale_lr = dict(base_batch_size=32)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
