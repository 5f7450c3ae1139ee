"""BK-SDM-Small (Kim et al., 2023, arXiv:2305.15798) to be fine-tuned: the released `nota-ai/bk-sdm-small`."""

_base_ = ["./ft_sd_tiny.py"]

model = dict(base=dict(checkpoint="nota-ai/bk-sdm-small"))
