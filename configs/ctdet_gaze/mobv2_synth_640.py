# As mobv2_synth_480, frames of 640 x 360 (padded to 672 x 384) and the virtual plane of the seed's 640 commands.
_base_ = './mobv2_synth_480.py'
input_frame = dict(size=(640, 360))
vp_size_px = (3840, 2360)
