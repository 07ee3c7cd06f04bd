# Twin of resdcn18_eve_480 on the synthetic world; only the data differ.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_20e.py',
    '../_base_/datasets/synth.py',
    '../_base_/models/ctdet_gaze.py',
]
pog_weight = 0.1
