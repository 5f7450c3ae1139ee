"""Smaller, faster and of few bits in one run: the quick start's cut, sampled in two steps, with weights of 4 bits.

Steps first, layers second, bits last: the teacher's architecture is brought to two steps, exactly as in
sdxl_shapes_progressive.py. Its cut then learns those two steps from it, with feature KD, and at last the same from itself
with weights of 16 values.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

all_layers = dict(keep=dict(_delete_=True))
stages = [
    dict(name="guided_8", model=dict(student=all_layers, method=dict(guidance_scale=3.0))),
    dict(name="halved_4", model=dict(teacher=dict(denoiser="previous"), student=all_layers, method=dict(steps=4))),
    dict(name="halved_2", model=dict(teacher=dict(denoiser="previous"), student=all_layers, method=dict(steps=2))),
    dict(
        name="cut_2",
        model=dict(
            teacher=dict(denoiser="previous"),
            method=dict(steps=2, substeps=1),
            losses=dict(feature=dict(_delete_=True, type="FeatureKD", normalize=True)),
        ),
        optim_wrapper=dict(optimizer=dict(lr=1e-3)),
        train_cfg=dict(max_iters=600, val_interval=600),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=600, by_epoch=False)],
    ),
    dict(
        name="four_bits",
        model=dict(
            teacher=dict(denoiser="previous"),
            student=dict(keep=dict(_delete_=True), quantize=dict(bits=4)),
            method=dict(steps=2, substeps=1),
            losses=dict(feature=dict(_delete_=True, type="FeatureKD", normalize=True)),
        ),
        train_cfg=dict(max_iters=100, val_interval=100),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=100, by_epoch=False)],
    ),
]
default_hooks = dict(samples=dict(interval=300))
del all_layers
