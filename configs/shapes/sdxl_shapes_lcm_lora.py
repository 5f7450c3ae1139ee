"""LCM-LoRA (Luo et al., 2023, arXiv:2311.05556) of the embedded SDXL-layout teacher: an adapter alone is trained.

With the adapter off, the one denoiser in memory is the teacher. The target is the student itself, without a gradient.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/lcm_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(
    student=dict(
        adapter=dict(
            type="LoraConfig",
            r=8,
            lora_alpha=8,
            target_modules=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
            + ["conv1", "conv2", "conv_shortcut", "time_emb_proj"],
        )
    ),
    method=dict(target="student"),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
default_hooks = dict(samples=dict(interval=600))
