"""Smaller, faster and of few bits in one run: the quick start's cut, sampled in two steps, with weights of 4 bits.

Steps first, layers second, bits last: the whole in two steps and the cut in two (methods/thinned_shapes.py), matched as in
small_sd_xl_shapes_matched_two_steps.py. At last the cut learns the same two steps from itself with weights of 16 values.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

matched = _base_.pop("matched")
matched.model.method.update(steps=2, match="trajectory")
four_bits = dict(
    name="four_bits",
    model=dict(
        teacher=dict(denoiser="previous"),
        student=dict(keep=dict(_delete_=True), quantize=dict(bits=4)),
        method=dict(steps=2, substeps=1),
        losses=dict(feature=dict(_delete_=True, type="FeatureKD", normalize=True)),
    ),
    train_cfg=dict(max_iters=100, val_interval=100),
    param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=100, by_epoch=False)],
)
stages = [*_base_.pop("whole"), _base_.pop("thinned")[0], matched, four_bits]
default_hooks = dict(samples=dict(interval=300))
del matched, four_bits
