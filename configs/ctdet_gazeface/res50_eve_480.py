# As ctdet_gaze/res50_eve_480 with the face's centre; the original has no such network.
_base_ = './resdcn18_eve_480.py'
model = dict(backbone=dict(depth=50), neck=dict(channels=(256, 256, 256), refine=None))
