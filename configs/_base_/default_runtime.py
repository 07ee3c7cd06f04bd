default_scope = 'evg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=317)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='ThroughputLoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='SaveFirstCheckpointHook',
        interval=1,
        filename_tmpl='model_{}.pth',
        save_best='pog/mean_mm',
        rule='less',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
# amp: 'bf16', or 'fp16' on a GPU; compile: torch.compile; fused: the optimiser's step in one kernel; accumulate: the gradients
# of so many batches make one step. What each gains: docs/benchmarks.md.
speed = dict(amp=None, compile=False, fused=False, accumulate=1)
# Weights, gradients and optimiser state shared out over the processes, for a backbone too large for one device.
fsdp = False
early_stop = dict(type='EarlyStopByDelta', monitor='pog/mean_vp_px', patience=4, delta=10)
# Averaged weights, e.g. dict(type='EMAHook', momentum=0.005, update_buffers=True): they are validated and saved as the model's.
ema = None
# Pictures of predictions on the validation every so many epochs, in WORK_DIR/pictures and TensorBoard; 0: never.
show_every = 0
# A person in training and test, or a checkpoint chosen on the test, is refused; True lets it pass and says so in the table.
allow_leak = False
# What tools/cross_validate.py does; None is leave-one-person-out over all persons of the index (docs/protocols.md).
protocol = None
custom_hooks = [
    dict(type='LeakGuardHook', allow_leak='@allow_leak'),
    dict(type='DescribeRunHook'),
    dict(type='EpochSeedHook'),
    dict(type='StopAtBadLossHook'),
    dict(type='PlainCheckpointHook'),
    dict(type='ShowPredictionsHook', interval='@show_every'),
    dict(type='SummaryHook'),
    '@early_stop',
    '@ema',
]

visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
log_level = 'INFO'
# For --auto-scale-lr: the config's learning rate is for this batch, of all processes together.
auto_scale_lr = dict(enable=False, base_batch_size=64)
load_from = None
resume = False
