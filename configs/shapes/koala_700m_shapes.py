"""KOALA-700M's cut (Lee et al., 2024) on the SDXL layout: one transformer layer of three in the deep stages, no mid."""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/koala_700m.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0],
            "up_blocks.0.attentions.*.transformer_blocks": [0],
        }
    )
)
