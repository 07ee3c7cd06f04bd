# UnityEyes, rendered eyes; indexed by: python tools/prepare_data.py unityeyes --src imgs --x-axis right --out data/unityeyes
# For training alone, there are no persons: set val_dataloader and test_dataloader, or splits and data_root of theirs.
# Its gaze is of the camera frame: a model needs gaze_frame='camera'.
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/unityeyes'
input_frame = dict(size=(160, 120), pad=0)
