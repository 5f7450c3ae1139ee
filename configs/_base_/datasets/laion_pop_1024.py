"""491,567 pictures of LAION-POP with long captions at 1024 x 1024, center crop and flip: the data of KOALA.

`source` is a folder of pictures with `metadata.csv` (file_name, text), or parquet with the pictures in it. The hub's
`Ejafa/ye-pop` holds a copy of the pictures and their captions in files of its own: unpack them into such a folder first.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        source="data/laion_pop/pictures",
        pipeline=[dict(type="ResizeCrop", size=1024), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
