# abnormalstudent/GazeEstimation, SynthesEyes.ipynb: GazeNet (7 conv, 1 dense), L1, Adam 1e-4, batch 32, 150 epochs.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_150e.py',
    '../_base_/datasets/syntheseyes.py',
    '../_base_/models/regression.py',
]
gaze_frame = 'camera'
model = dict(backbone=dict(_delete_=True, type='GazeNet', input_size='@input_frame.size'))
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=32)
