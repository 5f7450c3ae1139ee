"""A million pictures of LAION-art (aesthetic score above 7.5) at 512 x 512, center crop and flip: the data of Distill-SD.

`mim run diffdistill get_data laion_art data/laion_art` fetches them (docs/recipes.md). Any other folder of pictures with
`metadata.csv` (file_name, text), or parquet with the pictures in it: `--cfg-options train_dataloader.dataset.source=FOLDER`.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        source="data/laion_art/pictures",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
