# EVG: ctdet_gazeface --arch mobv2face, else as ctdet_gaze/mobv2_eve_480. The original's face head has two channels by a
# slip (its offset head's number), here it has one.
_base_ = './resdcn18_eve_480.py'
vp_size_px = (3840, 2360)
ppm = 1920 / 553
model = dict(
    backbone=dict(_delete_=True, type='MobileNetV2', width=1.0, pretrained='imagenet'),
    neck=dict(channels=(40, 40, 40), refine=None),
)
