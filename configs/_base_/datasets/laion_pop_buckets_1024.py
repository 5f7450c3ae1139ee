"""LAION-POP in aspect buckets of at most 1024 x 1024 pixels, random crop and flip; see laion_pop_1024.py.

A batch is of one bucket, so pictures keep their shape: docs/data.md. In SDXL's own 40 buckets instead of these 17:
`pipeline=[dict(type="BucketCrop", buckets="sdxl", crop="random"), ...]`.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(type="AspectBatchSampler"),
    dataset=dict(
        source="data/laion_pop/pictures",
        pipeline=[dict(type="BucketCrop", size=1024, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
