# default_runtime.py for models that answer with a direction: the best checkpoint by degrees; the originals stop at no figure.
_base_ = './default_runtime.py'
default_hooks = dict(checkpoint=dict(save_best='gaze/mean_deg'))
early_stop = None
