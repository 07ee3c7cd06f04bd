# The synthetic world seen close up, small enough for a CPU; `make quickstart` makes it:
# python tools/prepare_data.py synth --out data/synth_close --persons 400 --frames 40 --geometry close --size 160 96
_base_ = ['./loaders.py', './frames.py']
data_root = 'data/synth_close'
input_frame = dict(size=(160, 96), pad=0)
# The screen reaches 280 mm to each side of the camera and 330 mm below it.
vp_size_px = (640, 720)
ppm = 1.0
photometric = dict(prob=0.8)
