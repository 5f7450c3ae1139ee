"""How captioned pictures are loaded; children say which (`source`), how many to a batch, and their `pipeline`."""

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="CaptionedImages"),
)
