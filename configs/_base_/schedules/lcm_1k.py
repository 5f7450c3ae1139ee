"""1,000 updates of AdamW 1e-6 without weight decay.

The settings of diffusers' example of latent consistency distillation (huggingface/diffusers, in
examples/consistency_distillation), whose 8-bit Adam is AdamW here.
"""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000)
optim_wrapper = dict(
    type="MixedPrecision", optimizer=dict(type="AdamW", lr=1e-6, weight_decay=0.0), clip_grad=dict(max_norm=1.0)
)
