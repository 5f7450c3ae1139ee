"""BK-SDM's 212,776 pairs of LAION-Aesthetics 6.5+ at 512 x 512, center crop and flip (Kim et al., 2023, arXiv:2305.15798).

`source` is a folder of pictures with `metadata.csv` (file_name, text). LAION publishes addresses, not pictures: the
authors of BK-SDM have this very folder, 20 GB, and `mim run diffdistill get_data laion_aesthetics data/laion_aes` fetches it
(docs/recipes.md); any other: `--cfg-options train_dataloader.dataset.source=FOLDER`.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        source="data/laion_aes/preprocessed_212k",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
