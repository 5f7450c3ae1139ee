"""Segmind SD-Tiny: BK-SDM-Tiny's cut, features compared after every stage (github.com/segmind/distill-sd).

The rule pairs the student's last down stage with the teacher's first up stage, as Segmind's script does: that is what the
next stage, the teacher's second up stage, is used to.
"""

_base_ = ["./bk_sdm_tiny.py"]

model = dict(
    teacher=dict(checkpoint="SG161222/Realistic_Vision_V4.0"),
    feature_pairs=dict(_delete_=True, level="blocks", rule="next"),
    losses=dict(output=dict(weight=0.5), feature=dict(weight=0.5)),
)
