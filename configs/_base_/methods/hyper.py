"""Hyper-SD's shrinking phases (Ren et al., 2024, arXiv:2404.13686, alg. 1): 8, 4, 2, then 1 on a grid of 40 times.

Each stage trains the student of the one before it on, by the same teacher. Ours: whole students, which a stage can hand on,
where the authors train adapters; the embedding of the scale, its range and the average of latent consistency; no adversarial
loss, human feedback or score distillation, which the authors add.
"""

_base_ = ["./latent_consistency.py"]

method = dict(student=dict(guidance_embedding=256), method=dict(grid=40, phases=8))
stages = [
    dict(name="phases_8"),
    dict(name="phases_4", model=dict(method=dict(phases=4))),
    dict(name="phases_2", model=dict(method=dict(phases=2))),
    dict(name="phases_1", model=dict(method=dict(phases=1, steps=1))),
]
