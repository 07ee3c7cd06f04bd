# The point of gaze as two numbers from the frame, the baseline of ctdet_gaze/resdcn18_eve_480: its data, plane and schedule.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/adam_20e.py',
    '../_base_/datasets/eve.py',
    '../_base_/models/regression_vp.py',
]
