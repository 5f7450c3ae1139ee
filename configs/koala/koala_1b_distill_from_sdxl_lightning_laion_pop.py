"""KOALA-Lightning-1B from SDXL-Lightning at 1024² on LAION-POP: 1.16 B parameters (Lee et al., 2024, arXiv:2312.04005).

8 pictures x 4 GPUs x 4 accumulation = 128 pictures an update; the split and bf16 are our choice. The hub's SDXL-Lightning is
a UNet without a pipeline around it: assemble one as the README here says, and set model.teacher.checkpoint to its folder.
"""

_base_ = [
    "../_base_/models/koala_1b.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/koala_500k.py",
    "../_base_/default_runtime.py",
]

model = dict(
    teacher=dict(checkpoint="ByteDance/SDXL-Lightning"),
    dtype="bfloat16",
    sampling=dict(scheduler="EulerDiscreteScheduler", num_inference_steps=10, guidance_scale=3.5),
)
default_hooks = dict(samples=dict(prompts=["a portrait painting of a golden retriever"], interval=20_000))
