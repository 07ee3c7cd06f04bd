# gazenetv2_syntheseyes_120 on eyes of the synthetic world, normalised on the fly.
_base_ = './gazenetv1_synth_120.py'
model = dict(heads=dict(gaze=dict(hidden=1024, dropout=0.5)))
