# Gaze360, head crops; indexed by: python tools/prepare_data.py gaze360 --src GAZE360 --lists gaze360/code --out data/gaze360
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/gaze360'
# The original model's input; crops of any shape are stretched to it.
input_frame = dict(size=(224, 224), pad=0)
