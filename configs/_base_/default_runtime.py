"""What every run shares: hooks, log, checkpoints and seeds."""

default_scope = "diffdistill"
custom_imports = dict(imports=["diffdistill.engine"])  # so that MMEngine's own scripts know our registries too

default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    sampler_seed=None,  # infinite samplers seed themselves
    logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="SafeCheckpointHook", by_epoch=False, interval=1000, max_keep_ckpts=2),
    resume=dict(type="ResumeHook"),
    skipped=dict(type="SkippedHook"),
    buckets=dict(type="BucketsHook"),
    guard=dict(type="GuardHook"),
    stop=dict(type="StopHook"),
    memory=dict(type="MemoryHook"),
    evaluation=dict(type="EvaluationHook"),
    baseline=dict(type="BaselineHook"),
    samples=dict(type="SampleHook", interval=1000),
    export=dict(type="ExportHook"),
    report=dict(type="ReportHook"),
)
log_processor = dict(by_epoch=False, window_size=10)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
log_level = "INFO"
launcher = "none"
randomness = dict(seed=0, diff_rank_seed=True)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork"))
