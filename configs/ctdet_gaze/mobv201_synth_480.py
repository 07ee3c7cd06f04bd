# Twin of mobv201_eve_480 on the synthetic world; only the data differ.
_base_ = './mobv201_eve_480.py'
data_root = 'data/synth'
splits = dict(test='test')
