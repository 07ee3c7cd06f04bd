# Columbia Gaze, whole portraits, for tests across data sets alone: every row is of the split 'test'.
# Prepared by: python tools/prepare_data.py columbia --src "Columbia Gaze Data Set" --out data/columbia
# Its gaze is of the camera frame: a model needs gaze_frame='camera'.
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/columbia'
input_frame = dict(size=(432, 288), pad=31)
