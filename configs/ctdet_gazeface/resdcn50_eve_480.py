# As resdcn18_eve_480 with --arch resdcnface_50.
_base_ = './resdcn18_eve_480.py'
model = dict(backbone=dict(depth=50))
