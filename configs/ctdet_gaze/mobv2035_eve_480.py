# As mobv2_eve_480 with --arch mobv2035: 0.35 of MobileNetV2's channels, the same decoder. No weights are published for this
# width; the original starts from random ones too.
_base_ = './mobv2_eve_480.py'
model = dict(backbone=dict(width=0.35, pretrained=None))
