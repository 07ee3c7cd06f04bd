# pupilnet_syntheseyes_120 on eyes of the synthetic world, normalised on the fly; the gaze follows from the landmarks.
_base_ = [
    '../_base_/landmark_runtime.py',
    '../_base_/schedules/adam_680e.py',
    '../_base_/datasets/synth_eye.py',
    '../_base_/models/landmark.py',
]
labels = 'landmarks'
# Kappa: the mean of the synthetic world's right eyes.
codec = dict(eye=dict(normaliser='@normalise.normaliser', pupil_depth_mm=10.45, kappa_deg=(0.5, -4.0)))
preprocessor = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
photometric = dict(_delete_=True, type='Blur', prob=0.5)
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=32)
val_evaluator = [dict(type='LandmarkError'), dict(type='GazeError')]
