"""Progressive distillation to 4 steps (Salimans & Ho, 2022, arXiv:2202.00512), guidance folded in on the way.

From the paper: 50K updates a stage, the learning rate warmed up and then annealed to zero along a line within each stage,
clip 1, no moving average, v-prediction, errors weighted by truncated SNR. Ours: the steps (40, 8 and 4 divide 1000
timesteps, powers of two beyond 8 do not), the v-MSE stage before them, which a teacher that predicts eps needs, 1000
updates of warm-up, and AdamW 1e-5. Stages 1 and 2 learn from the config's teacher, the others from the student before them.
"""

method = dict(student=dict(prediction_type="v_prediction"))

# 4 accumulated batches make an update: 50,000 updates x 4 = 200,000 iterations a stage
train_cfg = dict(type="IterBasedTrainLoop", max_iters=200_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=0.0),
    accumulative_counts=4,
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, end=4000, by_epoch=False),
    dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=4000, end=200_000, by_epoch=False),
]

stages = [
    dict(name="velocity"),
    dict(
        name="steps_40",
        model=dict(
            method=dict(type="ProgressiveDistillation", steps=40, substeps=2, guidance_scale=7.5),
            losses=dict(output=None, task=dict(_delete_=True, type="TaskLoss", weighting=dict(type="TruncatedSNR"))),
        ),
    ),
    dict(
        name="steps_8",
        model=dict(
            teacher=dict(denoiser="previous"),
            student=dict(keep=dict(_delete_=True)),
            method=dict(type="ProgressiveDistillation", steps=8, substeps=5),
            losses=dict(
                output=None,
                feature=None,
                task=dict(_delete_=True, type="TaskLoss", weighting=dict(type="TruncatedSNR")),
            ),
        ),
    ),
    dict(
        name="steps_4",
        model=dict(
            teacher=dict(denoiser="previous"),
            student=dict(keep=dict(_delete_=True)),
            method=dict(type="ProgressiveDistillation", steps=4),
            losses=dict(
                output=None,
                feature=None,
                task=dict(_delete_=True, type="TaskLoss", weighting=dict(type="TruncatedSNR")),
            ),
        ),
    ),
]
