"""One step by an adversarial loss alone (LADD): the embedded SDXL-layout teacher in 8 steps, then in 1.

The first stage is that of sdxl_shapes_progressive.py. Then a discriminator on the features of all stages of the teacher
tells the pictures of the student from drawn ones, after both were renoised, at times with less noise than the paper's.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

stages = [
    _base_.stages[0],
    dict(
        name="adversarial_1",
        model=dict(
            method=dict(_delete_=True, type="DenoisingKD", steps=1),
            losses=dict(
                task=None,
                adversarial=dict(
                    type="AdversarialLoss",
                    timesteps=dict(type="LogitNormalTimesteps", mean=-1.0),
                    r1=100.0,
                ),
            ),
        ),
        optim_wrapper=dict(optimizer=dict(lr=1e-4, betas=(0.0, 0.99)), paramwise_cfg=dict(discriminator=dict(lr=2e-3))),
        train_cfg=dict(max_iters=500, val_interval=250),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=250, end=500, by_epoch=False)],
        default_hooks=dict(ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.02)),
    ),
]
default_hooks = dict(samples=dict(interval=250))
