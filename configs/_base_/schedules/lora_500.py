"""500 steps of AdamW at a constant 1e-4: DiffEngine's recipe for SSD-1B's DreamBooth LoRA."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=500)
optim_wrapper = dict(
    type="MixedPrecision", optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-2), clip_grad=dict(max_norm=1.0)
)
