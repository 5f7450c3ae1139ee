"""About 15 M pairs of GRIT and Midjourney pictures at 1024 x 1024, center crop and flip: the data of SSD-1B and Vega.

(Gupta et al., 2024, arXiv:2401.02677.) `source` is a folder of pictures with `metadata.csv` (file_name, text), or parquet
with the pictures in it. The mixture is not published; the hub's `zzliang/GRIT` has addresses and captions, whose pictures
must be fetched first, for instance with img2dataset.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        source="data/grit_midjourney/pictures",
        pipeline=[dict(type="ResizeCrop", size=1024), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
