# As resdcn18_eve_480 with --arch res_50: three plain deconvolutions of 256 channels (CenterNet's msra_resnet).
_base_ = './resdcn18_eve_480.py'
model = dict(backbone=dict(depth=50), neck=dict(channels=(256, 256, 256), refine=None))
