"""BK-SDM's 2,256,472 pairs of LAION-Aesthetics 6.25+ at 512 x 512, center crop and flip (Kim et al., 2023).

arXiv:2305.15798. The authors' `scripts/get_laion_data.sh preprocessed_2256k` fetches them; see laion_aesthetics_512.py.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        source="data/laion_aes/preprocessed_2256k",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
