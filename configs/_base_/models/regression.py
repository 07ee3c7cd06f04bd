# The direction of the gaze as (pitch, yaw) from patches: ResNet-18 and L1, RT-GazeEstimation's network; with depth=50
# ETH-XGaze's baseline. Other networks: GazeNet with input_size='@input_frame.size', SpaNet; other losses: AngularLoss.
gaze_frame = 'normalised_r'  # the frame of the data's labels
codec = dict(type='PitchYawCodec', input_frame='@input_frame', gaze_frame='@gaze_frame')
codecs = dict(gaze='@codec')
model = dict(
    type='GazeEstimator',
    backbone=dict(type='ResNet', depth=18, pretrained='imagenet'),
    heads=dict(gaze=dict(type='PitchYawHead', loss=dict(type='L1Loss'))),
    codecs='@codecs',
    data_preprocessor='@preprocessor',
)
