# As mobv2_eve_480 with a tenth of MobileNetV2's channels, see ctdet_gaze/mobv201_eve_480; the original has no such network.
_base_ = './mobv2_eve_480.py'
model = dict(backbone=dict(width=0.1, pretrained=None))
