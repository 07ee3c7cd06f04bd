# abnormalstudent/GazeEstimation, SynthesEyes.ipynb: GazeNet v2 (7 conv, 2 dense), else as gazenetv1_syntheseyes_120.
_base_ = './gazenetv1_syntheseyes_120.py'
model = dict(heads=dict(gaze=dict(hidden=1024, dropout=0.5)))
