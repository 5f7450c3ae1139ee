"""BK-SDM-Tiny with weights of 2 bits: the released student, trained on beside SD 1.4 while it computes with 4 values.

64 pictures x 1 GPU x 4 accumulation = 256 pictures an update, 5,000 updates. Bits and updates are our choice.
"""

_base_ = [
    "../_base_/models/sd_14.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/schedules/bk_sdm_50k.py",
    "../_base_/bk_sdm_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(student=dict(checkpoint="nota-ai/bk-sdm-tiny", quantize=dict(bits=2)), dtype="float16")
train_cfg = dict(max_iters=20_000)  # batches
