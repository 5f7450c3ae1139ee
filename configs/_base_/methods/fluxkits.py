"""The distillation of TencentARC's flux-mini (train_flux_distill.py of github.com/TencentARC/FluxKits).

Timesteps are logit-normal without a shift; teacher and student are told a guidance scale of 4. The authors even out the
scales of features by hand: a tenth for the last double block, a twentieth for single ones. Here each feature is divided by
its own scale, and the 30 are averaged.
"""

method = dict(
    method=dict(timesteps=dict(shift=1.0), guidance_scale=4.0),
    losses=dict(feature=dict(weight=1 / 30)),
)
