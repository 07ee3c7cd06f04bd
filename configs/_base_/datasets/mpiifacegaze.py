# MPIIFaceGaze, raw frames; prepared by: python tools/prepare_data.py mpiifacegaze --src MPIIFaceGaze --out data/mpiifacegaze
_base_ = ['./loaders.py', './frames.py']
data_root = 'data/mpiifacegaze'
# Leave-one-person-out: every row is of the split 'train', persons make the difference. tools/cross_validate.py does all 15.
splits = dict(train='train', val='train', test='train')
# As in the original the held-out person is watched while training, so tools/test.py refuses best_*.pth: test the last epoch.
subjects = dict(
    train=['p00', 'p01', 'p02', 'p03', 'p04', 'p05', 'p06', 'p07', 'p08', 'p09', 'p10', 'p12', 'p13', 'p14'],
    val=['p11'],
    test=['p11'],
)
input_frame = dict(size=(640, 360), pad=31)
vp_size_px = (3360, 2100)
ppm = 5.0
# The original's constants of this data set: ImageNet's in BGR order, on BGR pictures.
preprocessor = dict(mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229), channel_order='bgr')
