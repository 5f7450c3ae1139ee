"""AdamW from 1e-5 to zero along a cosine, 100K steps: Distill-SD's recipe for SD-Small (github.com/segmind/distill-sd)."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=100_000)
optim_wrapper = dict(
    type="MixedPrecision", optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-2), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=100_000, by_epoch=False)]
