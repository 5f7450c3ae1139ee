"""Realistic Vision 4.0, an SD 1.5, as the teacher of a full-size student; merge a cut to thin it.

Features are compared after every stage and the mid block, with the loss weights of Segmind's Distill-SD
(github.com/segmind/distill-sd).
"""

_base_ = ["./sd_14.py"]

model = dict(
    teacher=dict(checkpoint="SG161222/Realistic_Vision_V4.0"),
    feature_pairs=dict(level="blocks", rule="next"),
    losses=dict(output=dict(weight=0.5), feature=dict(weight=0.5)),
)
