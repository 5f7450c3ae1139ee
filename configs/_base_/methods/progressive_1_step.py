"""Progressive distillation to 1 step: 4 steps as in `progressive_4_steps.py`, then 2 and 1 with 100K updates each.

Salimans & Ho, 2022, arXiv:2202.00512, sec. 5.2: the last halvings need twice the updates.
"""

_base_ = ["./progressive_4_steps.py"]

# 100,000 updates x 4 = 400,000 iterations
twice = dict(
    train_cfg=dict(max_iters=400_000),
    param_scheduler=[
        dict(type="LinearLR", start_factor=0.001, end=4000, by_epoch=False),
        dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=4000, end=400_000, by_epoch=False),
    ],
)
model_of_4_steps = _base_.stages[-1]["model"]
stages = [
    *_base_.stages,
    dict(twice, name="steps_2", model=dict(model_of_4_steps, method=dict(type="ProgressiveDistillation", steps=2))),
    dict(twice, name="steps_1", model=dict(model_of_4_steps, method=dict(type="ProgressiveDistillation", steps=1))),
]
del twice, model_of_4_steps
