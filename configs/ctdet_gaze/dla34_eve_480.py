# As resdcn18_eve_480 with --arch dla_34: DLA-34 with deformable up-sampling, heads of 256 channels.
_base_ = './resdcn18_eve_480.py'
model = dict(
    backbone=dict(_delete_=True, type='DLA34', pretrained='imagenet'),
    neck=None,
    heads=dict(heatmap=dict(head_conv=256), offset=dict(head_conv=256)),
)
