# An example of a backbone of timm (pip install -e '.[timm]'): MobileNetV4-Conv-Small with the decoder of mobv2_eve_480. Any other
# network of convolutions with stride 32 goes the same way: --cfg-options model.backbone.name=NAME
_base_ = './mobv2_eve_480.py'
model = dict(backbone=dict(_delete_=True, type='TimmBackbone', name='mobilenetv4_conv_small', pretrained='imagenet'))
