# As resdcn18_synth_480 with MobileNetV2 and three plain deconvolutions of 40 channels. The seed's mobv2 commands give no
# --vp_pixel_per_mm, which in the original means the screen's own 1920 px / 553 mm, and a plane of 3840 x 2360 px.
_base_ = './resdcn18_synth_480.py'
vp_size_px = (3840, 2360)
ppm = 1920 / 553
model = dict(
    backbone=dict(_delete_=True, type='MobileNetV2', width=1.0, pretrained='imagenet'),
    neck=dict(channels=(40, 40, 40), refine=None),
)
