# As regression.py with each angle as a distribution over bins: L2CS-Net on Gaze360.
_base_ = './regression.py'
codec = dict(
    _delete_=True,
    type='BinnedPitchYawCodec',
    input_frame='@input_frame',
    gaze_frame='@gaze_frame',
    bins=90,
    limit_deg=180,
)
model = dict(
    backbone=dict(depth=50),
    heads=dict(gaze=dict(_delete_=True, type='BinnedPitchYawHead', codec='@codec', bin_weight=1.0, loss_weight=1.0)),
)
