# As resdcn18_eve_480 with MobileNetV2 and three plain deconvolutions of 40 channels.
_base_ = './resdcn18_eve_480.py'
model = dict(
    backbone=dict(_delete_=True, type='MobileNetV2', width=1.0, pretrained='imagenet'),
    neck=dict(channels=(40, 40, 40), refine=None),
)
