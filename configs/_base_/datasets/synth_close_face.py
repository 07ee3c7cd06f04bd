# The faces of a small synthetic world as patches of 140 x 140 mm, as of ETH-XGaze but smaller; made by:
# python tools/prepare_data.py synth --out data/synth_close_320 --persons 200 --frames 40 --geometry close --size 320 192
_base_ = './synth_face.py'
data_root = 'data/synth_close_320'
normalise = dict(normaliser=dict(focal_px=411.4, size_px=(96, 96)))
photometric = dict(prob=0.8)
