"""The published Segmind Vega in 4 steps without guidance, as its own teacher (Salimans & Ho, 2022, arXiv:2202.00512).

8 pictures x 8 GPUs x 4 accumulation = 256 pictures an update; 4 x 50,000 updates.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/progressive_4_steps.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(teacher=dict(checkpoint="segmind/Segmind-Vega"), dtype="bfloat16", losses=dict(task=None, feature=None))
