# What every data set of whole frames has in common; a data set adds its root, plane, frame and constants.
labels = 'plane'
vp_size_px = None
ppm = None

face_crop_ratio = 0.0
train_pipeline = [
    dict(type='LoadImage', input_frame='@input_frame'),
    dict(type='FaceCrop', prob='@face_crop_ratio'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    '@photometric',
    dict(type='VPProjection', codec='@codec'),
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
test_pipeline = [
    dict(type='LoadImage', input_frame='@input_frame'),
    dict(type='Affine', input_frame='@input_frame'),
    dict(type='Warp'),
    dict(type='VPProjection', codec='@codec'),
    dict(type='GaussianTarget', codecs='@codecs'),
    dict(type='PackGaze'),
]
val_evaluator = [dict(type='PoGError', ppm='@ppm'), dict(type='AngularError')]
