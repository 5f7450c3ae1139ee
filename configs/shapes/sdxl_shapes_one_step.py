"""One step by distribution matching and an adversarial loss (DMD2: Yin et al., 2024, arXiv:2405.14867) of the embedded
SDXL-layout teacher.

3 x 300 updates of 32 pictures to two steps, as sdxl_shapes_progressive.py, and 500 of 32 that take those to one:
methods/matched_shapes.py says how. Beside it a discriminator tells the pictures of the student from drawn ones, by the
features of all stages of the teacher, as in sdxl_shapes_ladd.py; the authors' reads those of the fake score.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

matched = _base_.pop("matched")
matched.model.losses.adversarial = dict(
    type="AdversarialLoss", timesteps=dict(type="LogitNormalTimesteps", mean=-1.0), r1=100.0
)
matched.optim_wrapper.paramwise_cfg.discriminator = dict(lr=2e-3)
stages = [*_base_.stages[:3], matched]
del matched
default_hooks = dict(samples=dict(interval=300))
