# As mobv2_eve_480 with 0.35 of MobileNetV2's channels, see ctdet_gaze/mobv2035_eve_480; the original has no such network.
_base_ = './mobv2_eve_480.py'
model = dict(backbone=dict(width=0.35, pretrained=None))
