"""833 captioned pictures of lambdalabs/pokemon-blip-captions at 1024 x 1024, center crop and flip.

A local copy: `mim run diffdistill get_data pokemon_blip data/pokemon_blip` (docs/recipes.md).
A folder, parquet or JSONL of your own: `--cfg-options train_dataloader.dataset.source=FOLDER`.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    dataset=dict(
        source="lambdalabs/pokemon-blip-captions",
        pipeline=[dict(type="ResizeCrop", size=1024), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
