# PupilNet on SynthesEyes: Adam, a tenth of the rate for the last 25 epochs.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=680, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=5e-4, betas=(0.9, 0.99)))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[655], gamma=0.1)]
