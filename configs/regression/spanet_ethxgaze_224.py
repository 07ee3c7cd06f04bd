# abnormalstudent/GazeEstimation: SpaNet on ETH-XGaze, batch 8, pictures divided by 255; its schedule is not published, this is ETH-XGaze's.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_step_25e.py',
    '../_base_/datasets/ethxgaze.py',
    '../_base_/models/regression.py',
]
model = dict(backbone=dict(_delete_=True, type='SpaNet'))
preprocessor = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=8)
