"""491,567 pictures of LAION-POP with long captions at 1024 x 1024, center crop and flip: the data of KOALA.

`mim run diffdistill get_data laion_pop data/laion_pop` fetches them (docs/recipes.md). Any other folder of pictures with
`metadata.csv` (file_name, text), or parquet with the pictures in it: `--cfg-options train_dataloader.dataset.source=FOLDER`.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        source="data/laion_pop/pictures",
        pipeline=[dict(type="ResizeCrop", size=1024), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
