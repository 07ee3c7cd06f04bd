# EVG: a heatmap and an offset on the virtual plane; resdcn_18.
hm_weight = 1.0
off_weight = 1.0
pog_weight = 0.0
l1_penalty = 0.0  # the original's weight_decay: wd * (wd + sum |w|)
codec = dict(type='VPHeatmapCodec', input_frame='@input_frame', vp_size_px='@vp_size_px', ppm='@ppm')
codecs = dict(gaze='@codec')
model = dict(
    type='GazeEstimator',
    backbone=dict(type='ResNet', depth=18, pretrained='imagenet'),
    neck=dict(type='DeconvNeck', channels=(256, 128, 64), refine='dcn'),
    heads=dict(
        heatmap=dict(type='HeatmapHead', head_conv=64, loss_weight='@hm_weight'),
        offset=dict(type='OffsetHead', head_conv=64, loss_weight='@off_weight'),
    ),
    losses=dict(pog=dict(type='PoGLoss', codec='@codec', weight='@pog_weight')),
    codecs='@codecs',
    l1_penalty='@l1_penalty',
    data_preprocessor='@preprocessor',
)
