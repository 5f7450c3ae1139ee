"""BK-SDM-Small-2M: the same run on 2,256,472 LAION-Aesthetics 6.25+ pairs (Kim et al., 2023, arXiv:2305.15798)."""

_base_ = ["./bk_sdm_small_distill_from_sd_14_laion_212k.py"]

train_dataloader = dict(dataset=dict(source="data/laion_aes/preprocessed_2256k"))
