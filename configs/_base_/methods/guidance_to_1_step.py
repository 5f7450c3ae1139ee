"""Guidance distillation, then 40, 8, 4, 2 and 1 steps (Meng et al., 2023, arXiv:2210.03142, algs. 1 and 2).

From the paper: one student for all guidance strengths w in [0, 14], which are scales in [1, 15]; it is told w by an
embedding; then it is halved as by Salimans & Ho (2022). Unverified here: batch 512, AdamW 1e-4, 3K updates of guidance and
5K a halving for latent models. Ours: the v-MSE stage before, for a teacher that predicts eps; the steps, which must divide
1000 timesteps; and 20K, 20K and 50K updates for 4, 2 and 1 steps.
"""

method = dict(
    student=dict(prediction_type="v_prediction"),
    losses=dict(task=None, feature=None),  # the first stage imitates the teacher's output alone
)

# 8 accumulated batches make an update: 50,000 updates x 8 = 400,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=400_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.0),
    accumulative_counts=8,
    clip_grad=dict(max_norm=1.0),
)

losses = dict(output=None, task=dict(_delete_=True, type="TaskLoss", weighting=dict(type="TruncatedSNR")))
halved = dict(teacher=dict(denoiser="previous"), losses=losses)
scales = [1.0, 15.0]
stages = [
    dict(name="velocity"),
    dict(
        name="guidance",
        train_cfg=dict(max_iters=24_000),  # 3,000 updates
        model=dict(
            student=dict(guidance_embedding=256),
            method=dict(type="GuidanceDistillation", guidance_scale=scales),
            losses=losses,
        ),
    ),
    *(
        dict(
            name=f"steps_{steps}",
            train_cfg=dict(max_iters=8 * updates),
            model=dict(
                halved,
                method=dict(type="ProgressiveDistillation", steps=steps, substeps=substeps, guidance_scale=scales),
            ),
        )
        for steps, substeps, updates in ((40, 2, 5000), (8, 5, 5000), (4, 2, 20_000), (2, 2, 20_000), (1, 2, 50_000))
    ),
]
del losses, halved, scales
