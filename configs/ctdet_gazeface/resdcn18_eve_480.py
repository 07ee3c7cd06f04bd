# EVG: ctdet_gazeface --arch resdcnface_18 with --face_hm_head --face_hm_weight 5, else as ctdet_gaze/resdcn18_eve_480.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_20e.py',
    '../_base_/datasets/eve.py',
    '../_base_/models/ctdet_gazeface.py',
]
pog_weight = 0.1
face_hm_weight = 5.0
