# Twin of resnet18_eve_480_vp on the synthetic world; only the data differ.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_20e.py',
    '../_base_/datasets/synth.py',
    '../_base_/models/regression_vp.py',
]
