# GazeNet on SynthesEyes: Adam, a thousandth of the rate after epoch 140.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=150, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99)))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[140], gamma=1e-3)]
