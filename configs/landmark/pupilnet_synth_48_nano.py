# Learns on two CPU cores in minutes: one hourglass on small eye patches.
_base_ = [
    '../_base_/landmark_runtime.py',
    '../_base_/schedules/adamw_cosine_20e.py',
    '../_base_/datasets/synth_close_eye.py',
    '../_base_/models/landmark.py',
]
labels = 'landmarks'
train_cfg = dict(max_epochs=4)
codec = dict(read_out='parabola', eye=dict(normaliser='@normalise.normaliser', kappa_deg=(0.5, -4.0)))
model = dict(backbone=dict(hourglasses=1))
train_dataloader = dict(batch_size=16, num_workers=1)
auto_scale_lr = dict(base_batch_size=16)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
val_evaluator = [dict(type='LandmarkError'), dict(type='GazeError')]
