"""One cut further than small_sd_xl_shapes.py, as tiny_sd_xl is from small_sd_xl: the innermost stage goes too.

(The real small_sd_xl keeps its mid block and tiny_sd_xl loses it; the quick start's student has none to lose.) Features are
compared by stage; the rule pairs the student's last down stage with the teacher's first up stage.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(
    student=dict(keep={"down_blocks": [0, 1], "up_blocks": [1, 2]}),
    feature_pairs=dict(level="blocks"),
)
