# As mobv2_eve_480 on frames of 640 x 360 (padded to 672 x 384).
# The pictures: the command of _base_/datasets/eve.py with --size 640 360 --out data/eve_640
_base_ = './mobv2_eve_480.py'
data_root = 'data/eve_640'
input_frame = dict(size=(640, 360))
