# The synthetic world in EVE's geometry, a twin of eve.py; made by:
# python tools/prepare_data.py synth --out data/synth --persons 200 --frames 100 --geometry eve --size 480 270
_base_ = './eve.py'
data_root = 'data/synth'
splits = dict(test='test')
