# EVG: ctdet_gaze --dataset gazecapture --arch resdcn_18 --num_epochs 70 --lr_step 45,60 --vp_pixel_per_mm 5 --vp_h 2400 --vp_w 2400 --pog_offset --pog_weight 0.1
# The command has no --camera_screen_pos; here the plane's origin is the camera unless the data are prepared with --offset none.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_70e.py',
    '../_base_/datasets/gazecapture.py',
    '../_base_/models/ctdet_gaze.py',
]
pog_weight = 0.1
train_dataloader = dict(batch_size=108)
auto_scale_lr = dict(base_batch_size=108)
