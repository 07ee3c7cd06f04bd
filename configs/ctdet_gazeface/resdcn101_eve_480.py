# As resdcn18_eve_480 with --arch resdcnface_101.
_base_ = './resdcn18_eve_480.py'
model = dict(backbone=dict(depth=101))
