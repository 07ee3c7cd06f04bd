# L2CS-Net: train.py --dataset gaze360 --num_epochs 50 --batch_size 16 --lr 0.00001 --alpha 1, crops of 448 x 448.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_50e.py',
    '../_base_/datasets/gaze360.py',
    '../_base_/models/regression_bins.py',
]
gaze_frame = 'line_of_sight'
input_frame = dict(size=(448, 448))
train_dataloader = dict(batch_size=16)
auto_scale_lr = dict(base_batch_size=16)
