# GazeHub's EYEDIAP, 224 x 224 face patches; indexed by: python tools/prepare_data.py gazehub --kind eyediap --src EYEDIAP --out data/eyediap
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/eyediap'
# Leave-one-person-out or four clusters (protocol=dict(type='Folds', ...)); every row is of the split 'train'.
splits = dict(train='train', val='train', test='train')
subjects = dict(
    train=['p1', 'p2', 'p3', 'p4', 'p5', 'p6', 'p7', 'p8', 'p9', 'p10', 'p11', 'p14', 'p15'], val=['p16'], test=['p16']
)
input_frame = dict(size=(224, 224), pad=0)
