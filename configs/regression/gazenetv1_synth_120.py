# gazenetv1_syntheseyes_120 on eyes of the synthetic world, normalised on the fly.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_150e.py',
    '../_base_/datasets/synth_eye.py',
    '../_base_/models/regression.py',
]
preprocessor = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
model = dict(backbone=dict(_delete_=True, type='GazeNet', input_size='@input_frame.size'))
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=32)
