"""About 15 M pairs of GRIT and Midjourney pictures at 1024 x 1024, center crop and flip: the data of SSD-1B and Vega.

(Gupta et al., 2024, arXiv:2401.02677.) The mixture is not published; `get_data grit_midjourney data/grit_midjourney` fetches
GRIT, and any pairs that you add (docs/recipes.md). Or `source` is a folder with `metadata.csv` (file_name, text).
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        source="data/grit_midjourney/pictures",
        pipeline=[dict(type="ResizeCrop", size=1024), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
