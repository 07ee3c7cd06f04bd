# Twin of resnet18_eve_224 on the synthetic world; only the data differ.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_step_20e.py',
    '../_base_/datasets/synth_face.py',
    '../_base_/models/regression.py',
]
