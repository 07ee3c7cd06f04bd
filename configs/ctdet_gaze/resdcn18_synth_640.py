# As resdcn18_synth_480 on frames of 640 x 360 (padded to 672 x 384), with the virtual plane of the seed's 640 commands.
# The pictures: the command of _base_/datasets/synth.py with --size 640 360 --out data/synth_640
_base_ = './resdcn18_synth_480.py'
data_root = 'data/synth_640'
input_frame = dict(size=(640, 360))
vp_size_px = (3840, 2360)
