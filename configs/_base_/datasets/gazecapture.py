# GazeCapture, phones and tablets; prepared by: python tools/prepare_data.py gazecapture --src GazeCapture --out data/gazecapture
# Its plane's origin is the camera. The original's published commands ran without the camera's place (the plane's centre is the
# screen's): for those, prepare with --offset none into another folder and set data_root.
_base_ = ['./loaders.py', './frames.py']
data_root = 'data/gazecapture'
# A letterbox: 640 x 480 and 480 x 640 keep their aspect.
input_frame = dict(size=(512, 512), pad=0, keep_aspect=True)
vp_size_px = (2400, 2400)
ppm = 5.0
# The original's constants of this data set, on BGR pictures.
preprocessor = dict(mean=(0.5893, 0.5006, 0.4467), std=(0.2713, 0.2683, 0.2581), channel_order='bgr')
