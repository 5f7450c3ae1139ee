"""Half the depth of the SD3 class, block by block: each kept block learns alone what those dropped behind it did (PPCL)."""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/cuts/half_depth_sd3_shapes.py",
    "../_base_/methods/block_recovery.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/sd3_shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))
