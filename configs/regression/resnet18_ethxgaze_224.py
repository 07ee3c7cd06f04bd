# RT-GazeEstimation, train/config_eth.yaml: ResNet-18, L1, Adam 1e-4, batch 64, 20 epochs, steps after 9 and 19.
_base_ = [
    '../_base_/gaze_runtime.py',
    '../_base_/schedules/adam_step_20e.py',
    '../_base_/datasets/ethxgaze.py',
    '../_base_/models/regression.py',
]
