# As mobv2_eve_480 with --arch mobv201: a tenth of MobileNetV2's channels, the same decoder. No weights are published for this
# width; the original starts from random ones too.
_base_ = './mobv2_eve_480.py'
model = dict(backbone=dict(width=0.1, pretrained=None))
