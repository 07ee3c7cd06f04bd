# EVE, webcam_c; prepared by: python tools/prepare_data.py eve --src EVE --out data/eve --camera webcam_c --size 480 270
_base_ = ['./loaders.py', './frames.py']
data_root = 'data/eve'
# The test persons' labels are withheld (Codalab), so figures are those of the five validation persons.
splits = dict(test='val')
input_frame = dict(size=(480, 270), pad=31)
vp_size_px = (3840, 2160)
ppm = 3.3
# The original's constants: ImageNet's in RGB order, on BGR pictures.
preprocessor = dict(channel_order='bgr')
