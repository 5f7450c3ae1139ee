"""LoRA on the embedded SD-layout pipeline: five captioned pictures of stars, "a large red s on a white background".

r 16, alpha 16. 8 pictures x 1 = 8 pictures an update, 300 updates. There are no class pictures, so it forgets; the
validation says how much.
"""

_base_ = [
    "../_base_/models/ft_sd_shapes.py",
    "../_base_/adapters/lora_star.py",
    "../_base_/datasets/dreambooth_star.py",
    "../_base_/schedules/star_300.py",
    "../_base_/star_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"))
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type="CaptionedImages",
        source="diffdistill::star_pictures",
        pipeline=[dict(type="ResizeCrop", size=32), dict(type="PackInputs")],
    ),
)
