# The synthetic world seen close up, small enough for a CPU; `make quickstart` makes it:
# python tools/prepare_data.py synth --out data/synth_close --persons 400 --frames 40 --geometry close --size 160 96
_base_ = './frames.py'
data_root = 'data/synth_close'
input_frame = dict(size=(160, 96), pad=0)
# The screen reaches from 330 mm below the camera to 280 mm at each side of it.
vp_size_px = (640, 384)
ppm = 1.0
