# EVG: ctdet_gaze --dataset mpiifacegaze --arch resdcn_18 --num_epochs 70 --lr_step 45,60 --keep_res --resize_raw_image --camera_screen_pos --vp_h 2100 --vp_w 3360 --vp_pixel_per_mm 5 --data_train_person_id 11 --data_test_person_id 11
# The two ids name the files gaze_train_p11.json (everybody but person 11) and gaze_test_p11.json (person 11 alone).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_70e.py',
    '../_base_/datasets/mpiifacegaze.py',
    '../_base_/models/ctdet_gaze.py',
]
train_dataloader = dict(batch_size=108)
auto_scale_lr = dict(base_batch_size=108)
