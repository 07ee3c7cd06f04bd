# RT-GazeEstimation: Adam, a tenth of the rate after epochs 9 and 19 (its StepLR of 10 counts one step before the training).
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[9, 19], gamma=0.1)]
