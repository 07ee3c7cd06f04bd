# EVG with the face branch on GazeCapture: Adam, a tenth of the rate after epochs 30 and 45.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2.5e-4))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[30, 45], gamma=0.1)]
