"""A student of few steps tuned at its own timesteps, as its own teacher: with an adapter, one denoiser in memory is both.

`task` learns the subject's pictures on the grid of the sampler. `prior` holds the student, on the class captions of the same
batch, to what it answers without its adapter; the data set's `class_images.weight` must be 0.
"""

method = dict(
    method=dict(_delete_=True, type="DenoisingKD", timesteps=dict(type="GridTimesteps", steps=2)),
    losses=dict(task=dict(type="TaskLoss"), prior=dict(type="PriorKD"), output=None, feature=None),
)
