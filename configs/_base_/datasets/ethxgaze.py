# ETH-XGaze, 224 x 224 face patches; indexed by: python tools/prepare_data.py ethxgaze --src xgaze_224 --out data/ethxgaze
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/ethxgaze'
# The test persons' labels are withheld (Codalab), so figures are those of the seven validation persons.
splits = dict(test='val')
input_frame = dict(size=(224, 224), pad=0)
# How the publishers normalised the patches; a runtime does the same with a camera's frames.
patch = dict(part='face', normaliser=dict(focal_px=960, distance_mm=600, size_px=(224, 224), scaling='r'))
