"""Segmind SD-Small to be fine-tuned: the released `segmind/small-sd`, BK-SDM-Base's cut of Realistic Vision 4.0."""

_base_ = ["./ft_sd_tiny.py"]

model = dict(base=dict(checkpoint="segmind/small-sd"))
