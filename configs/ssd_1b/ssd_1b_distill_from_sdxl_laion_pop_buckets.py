"""SSD-1B distilled from SDXL on LAION-POP in aspect buckets, so that it learns other shapes than squares, too.

8 pictures x 4 accumulation = 32 pictures an update, bf16; all of that is our choice.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/ssd_1b.py",
    "../_base_/datasets/laion_pop_buckets_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/koala_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="bfloat16")
