# As ctdet_gaze/res34_eve_480 with the face's centre; the original has no such network.
_base_ = './resdcn18_eve_480.py'
model = dict(backbone=dict(depth=34), neck=dict(channels=(256, 256, 256), refine=None))
