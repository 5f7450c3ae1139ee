"""Segmind's portrait fine-tuning of tiny-sd (github.com/segmind/distill-sd): 7K portraits by its teacher, at 768 x 768.

131K steps at 1e-4, fp16. 32 pictures x 1 GPU x 4 accumulation = 128 pictures an update; 131,000 updates x 4 = 524,000
iterations. `source` is a folder of portraits with `metadata.csv` (file_name, text); Segmind's own are not published, but
configs/random_conditioning/README.md says how a teacher makes some.
"""

_base_ = [
    "../_base_/models/ft_sd_tiny.py",
    "../_base_/datasets/captioned.py",
    "../_base_/schedules/lora_500.py",
    "../_base_/default_runtime.py",
]

model = dict(dtype="float16", gradient_checkpointing=True)
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(
        source="data/portraits",
        pipeline=[dict(type="ResizeCrop", size=768), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
train_cfg = dict(max_iters=524_000)
optim_wrapper = dict(accumulative_counts=4)
default_hooks = dict(
    samples=dict(
        interval=5000,
        prompts=["portrait of a pretty girl", "portrait of an old man", "portrait of a child, 4k", "portrait of a sailor"],
    ),
)
