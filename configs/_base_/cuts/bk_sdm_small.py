"""BK-SDM-Small: BK-SDM-Base without its mid block (Kim et al., 2023, arXiv:2305.15798, sec. 3.1); 482 M parameters."""

_base_ = ["./bk_sdm_base.py"]

cut = dict(student=dict(keep={"mid_block.resnets": [], "mid_block.attentions": []}))
