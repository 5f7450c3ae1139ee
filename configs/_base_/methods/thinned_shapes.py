"""Steps first, layers second, on shapes: stages for a run that inherits progressive_shapes.py and a cut.

`whole`: the teacher's architecture comes to two steps, exactly as in progressive_shapes.py. `thinned`: its cut learns those
two steps from it, with feature KD, and halves them by itself.
"""

all_layers = dict(keep=dict(_delete_=True))
features = dict(feature=dict(_delete_=True, type="FeatureKD", normalize=True))
before = dict(denoiser="previous")
whole = [
    dict(name="guided_8", model=dict(student=all_layers, method=dict(guidance_scale=3.0))),
    dict(name="halved_4", model=dict(teacher=before, student=all_layers, method=dict(steps=4))),
    dict(name="halved_2", model=dict(teacher=before, student=all_layers, method=dict(steps=2))),
]
thinned = [
    dict(
        name="cut_2",
        model=dict(teacher=before, method=dict(steps=2, substeps=1), losses=features),
        optim_wrapper=dict(optimizer=dict(lr=1e-3)),
        train_cfg=dict(max_iters=600, val_interval=600),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=600, by_epoch=False)],
    ),
    dict(name="cut_1", model=dict(teacher=before, student=all_layers, method=dict(steps=1), losses=features)),
]
del all_layers, features, before
