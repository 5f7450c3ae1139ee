"""Captioned pictures at 512 x 512, center crop and flip; children say which (`source`) and how many to a batch."""

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CaptionedImages",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
