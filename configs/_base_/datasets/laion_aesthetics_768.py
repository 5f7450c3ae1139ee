"""BK-SDM's 212,776 pairs of LAION-Aesthetics 6.5+ at 768 x 768, center crop and flip; see laion_aesthetics_512.py."""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        source="data/laion_aes/preprocessed_212k",
        pipeline=[dict(type="ResizeCrop", size=768), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
