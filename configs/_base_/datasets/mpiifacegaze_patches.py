# MPIIFaceGaze, the publishers' 448 x 448 face patches, 3000 a person; indexed by:
# python tools/prepare_data.py mpiifacegaze --format normalized --frame normalised_sr --src MPIIFaceGaze_normalizad --out data/mpii_patches
# A model needs gaze_frame='normalised_sr', or whatever --frame said.
_base_ = ['./loaders.py', './patches.py']
data_root = 'data/mpii_patches'
# Leave-one-person-out, see mpiifacegaze.py.
splits = dict(train='train', val='train', test='train')
subjects = dict(
    train=['p00', 'p01', 'p02', 'p03', 'p04', 'p05', 'p06', 'p07', 'p08', 'p09', 'p10', 'p12', 'p13', 'p14'],
    val=['p11'],
    test=['p11'],
)
input_frame = dict(size=(448, 448), pad=0)
