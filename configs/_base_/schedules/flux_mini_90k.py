"""AdamW at a constant 1e-4, 90K updates, clip 1: flux-mini's second stage, at 1024 x 1024 (its model card and code)."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=90_000)
optim_wrapper = dict(
    type="MixedPrecision", optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-2), clip_grad=dict(max_norm=1.0)
)
