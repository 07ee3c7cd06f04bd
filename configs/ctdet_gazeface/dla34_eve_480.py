# As ctdet_gaze/dla34_eve_480 with the face's centre; the original has no such network.
_base_ = './resdcn18_eve_480.py'
model = dict(
    backbone=dict(_delete_=True, type='DLA34', pretrained='imagenet'),
    neck=None,
    heads=dict(heatmap=dict(head_conv=256), offset=dict(head_conv=256), face_center=dict(head_conv=256)),
)
