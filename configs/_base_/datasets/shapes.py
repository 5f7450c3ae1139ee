"""The procedural shapes: 32x32 pictures with captions, and 256 captions (half of them held out) to validate on."""

train_dataloader = dict(
    batch_size=32,
    num_workers=0,  # a batch is drawn in milliseconds
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="ShapesDataset", seed=0, length=100_000, pipeline=[dict(type="CaptionDropout", p=0.1)]),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="ShapesCaptions", length=256, seed=0),
)
val_evaluator = dict(type="CaptionAccuracy")
val_cfg = dict()
