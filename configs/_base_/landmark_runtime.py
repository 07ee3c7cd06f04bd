# default_runtime.py for models that answer with landmarks: the best checkpoint by px; the original stops at no figure.
_base_ = './default_runtime.py'
default_hooks = dict(checkpoint=dict(save_best='landmarks/mean_px'))
early_stop = None
