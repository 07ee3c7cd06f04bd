# The synthetic world seen close up, large enough for patches of faces and eyes, a twin of eve_face.py; made by:
# python tools/prepare_data.py synth --out data/synth_close_960 --persons 200 --frames 100 --geometry close --size 960 576
_base_ = './eve_face.py'
data_root = 'data/synth_close_960'
splits = dict(test='test')
