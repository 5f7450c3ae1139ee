"""Segmind SD-Small: BK-SDM-Base's cut, features compared after stages and mid block (github.com/segmind/distill-sd)."""

_base_ = ["./bk_sdm_base.py"]

model = dict(
    teacher=dict(checkpoint="SG161222/Realistic_Vision_V4.0"),
    feature_pairs=dict(level="blocks", rule="next"),
    losses=dict(output=dict(weight=0.5), feature=dict(weight=0.5)),
)
