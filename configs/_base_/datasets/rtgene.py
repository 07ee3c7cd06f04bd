# GazeHub's RT-GENE, 224 x 224 face patches; indexed by:
# python tools/prepare_data.py gazehub --kind rtgene --sign subject --frame head --src RT-GENE --out data/rtgene
# A model needs gaze_frame='head', or whatever --frame said.
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/rtgene'
# The last of the three folds is tested, s014 to s016 validate; all three: protocol=dict(type='Folds', ...), docs/datasets.md.
splits = dict(test='train')
subjects = dict(
    train=['s001', 's002', 's008', 's010', 's003', 's004', 's007', 's009'],
    test=['s005', 's006', 's011', 's012', 's013'],
)
input_frame = dict(size=(224, 224), pad=0)
