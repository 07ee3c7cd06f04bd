# ETH-XGaze's baseline, which is abnormalstudent/GazeEstimation's ResGaze: ResNet-50, L1, Adam 1e-4, batch 50, 25 epochs, steps after 10 and 20.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_step_25e.py',
    '../_base_/datasets/ethxgaze.py',
    '../_base_/models/regression.py',
]
model = dict(backbone=dict(depth=50))
train_dataloader = dict(batch_size=50)
auto_scale_lr = dict(base_batch_size=50)
