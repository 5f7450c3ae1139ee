"""One step by an adversarial loss alone (LADD): the embedded SDXL-layout teacher in 8 steps, then in 1.

The first stage is that of sdxl_shapes_progressive.py. Then a discriminator on the teacher's features tells the pictures of
the student from drawn ones, after both were renoised.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

stages = [
    _base_.stages[0],
    dict(
        name="adversarial_1",
        model=dict(
            method=dict(_delete_=True, type="DenoisingKD", timesteps=dict(type="GridTimesteps", steps=1)),
            sampling=dict(
                _delete_=True,
                scheduler=dict(type="DDIMScheduler", timestep_spacing="trailing"),
                num_inference_steps=1,
                guidance_scale=1.0,
            ),
            losses=dict(
                task=None,
                adversarial=dict(type="AdversarialLoss", layers=["down_blocks.1", "mid_block", "up_blocks.0"]),
            ),
        ),
        optim_wrapper=dict(optimizer=dict(lr=2e-4, betas=(0.0, 0.99)), paramwise_cfg=dict(discriminator=dict(lr=5e-4))),
        train_cfg=dict(max_iters=400, val_interval=100),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=400, by_epoch=False)],
    ),
]
default_hooks = dict(ema=dict(type="EMAHook", momentum=0.02), samples=dict(interval=200))
