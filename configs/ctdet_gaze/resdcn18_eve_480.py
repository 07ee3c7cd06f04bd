# EVG: ctdet_gaze --dataset eve --num_epochs 20 --batch_size 64 --vp_w 3840 --vp_h 2160 --vp_pixel_per_mm 3.3 --keep_res --camera_screen_pos --pog_weight 0.1 --arch resdcn_18, frames of 480 x 270
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_20e.py',
    '../_base_/datasets/eve.py',
    '../_base_/models/ctdet_gaze.py',
]
pog_weight = 0.1
