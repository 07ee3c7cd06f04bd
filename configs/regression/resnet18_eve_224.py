# RT-GazeEstimation's network and schedule on EVE's faces, normalised on the fly.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_step_20e.py',
    '../_base_/datasets/eve_face.py',
    '../_base_/models/regression.py',
]
