# Twin of mobv4s_eve_480 on the synthetic world; only the data differ.
_base_ = './mobv4s_eve_480.py'
data_root = 'data/synth'
splits = dict(test='test')
