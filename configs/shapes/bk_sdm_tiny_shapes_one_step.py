"""BK-SDM-Tiny's cut of the SD layout in one step; the fake score has the teacher's architecture.

The whole in two steps, the cut in two and in one (methods/thinned_shapes.py), by their outputs alone, and then matched
(methods/matched_shapes.py). Which tensors start from random values: bk_sdm_tiny_shapes.py.
"""

_base_ = [
    "../_base_/models/sd_shapes.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(
    student=dict(
        keep={"down_blocks": [0, 1], "up_blocks": [1, 2]},
        fresh=[
            "up_blocks.0.resnets.0.norm1.*",
            "up_blocks.0.resnets.0.conv1.weight",
            "up_blocks.0.resnets.0.conv_shortcut.weight",
        ],
    ),
    feature_pairs=None,
)
whole, thinned = _base_.pop("whole"), _base_.pop("thinned")
for stage in [*whole, thinned[1]]:
    stage.model.student.fresh = []  # it keeps all layers
for stage in thinned:
    del stage.model["losses"]
stages = [*whole, *thinned, _base_.pop("matched")]
default_hooks = dict(samples=dict(interval=300))
del whole, thinned, stage
