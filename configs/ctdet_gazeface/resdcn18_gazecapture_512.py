# EVG: ctdet_gazeface --dataset gazecapture --arch resdcnface_18 --num_epochs 60 --lr_step 30,45 --vp_pixel_per_mm 5 --vp_h 2400 --vp_w 2400 --face_hm_head --face_hm_weight 1
# The command has no --camera_screen_pos; here the plane's origin is the camera unless the data are prepared with --offset none.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_60e.py',
    '../_base_/datasets/gazecapture.py',
    '../_base_/models/ctdet_gazeface.py',
]
train_dataloader = dict(batch_size=108)
auto_scale_lr = dict(base_batch_size=108)
