"""BK-SDM-Small: 482 M parameters, BK-SDM-Base without its mid block (Kim et al., 2023, arXiv:2305.15798, sec. 3.1)."""

_base_ = ["./bk_sdm_base.py"]

model = dict(student=dict(keep={"mid_block.resnets": [], "mid_block.attentions": []}))
