# SynthesEyes; indexed by: python tools/prepare_data.py syntheseyes --src SynthesEyes_data --axes opengl --out data/syntheseyes
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/syntheseyes'
# All rows are of the split 'train'. The original tests the last tenth of the sorted files: about the last head model. It is
# watched while training, so tools/test.py refuses best_*.pth: test the last epoch.
splits = dict(train='train', val='train', test='train')
subjects = dict(
    train=['f01', 'f02', 'f03', 'f04', 'f05', 'm01', 'm02', 'm03', 'm04'],
    val=['m05'],
    test=['m05'],
)
input_frame = dict(size=(120, 80), pad=0)
# Which eye it is nobody says; the index has the one pupil twice. No flip: where on the rim its points begin nobody says either.
landmarks = dict(part='right_eye')
# The original's pictures are RGB divided by 255.
preprocessor = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
