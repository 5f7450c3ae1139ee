"""A million pictures of LAION-art (aesthetic score above 7.5) at 512 x 512, center crop and flip: the data of Distill-SD.

`source` is a folder of pictures with `metadata.csv` (file_name, text), or parquet with the pictures in it. The hub's
`recastai/LAION-art-EN-improved-captions` has addresses and captions alone: fetch the pictures first, for instance with
img2dataset (`--output_format parquet`, captions in `caption`, pictures in `jpg`: then set `image_column="jpg"`).
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        source="data/laion_art/pictures",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
