# abnormalstudent/GazeEstimation, Hourglass.ipynb: PupilNet, sum of squares, Adam 5e-4, batch 32, 680 epochs, blurred pictures.
_base_ = [
    '../_base_/landmark_runtime.py',
    '../_base_/schedules/adam_680e.py',
    '../_base_/datasets/syntheseyes.py',
    '../_base_/models/landmark.py',
]
labels = 'landmarks'
photometric = dict(_delete_=True, type='Blur', prob=0.5)
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(base_batch_size=32)
val_evaluator = [dict(type='LandmarkError')]
