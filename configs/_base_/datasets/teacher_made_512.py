"""Pictures that the teacher has made for captions, at 512 x 512, with 10 % empty captions: no real picture is needed.

`source` is a folder of pictures with `metadata.csv` (file_name, text); configs/random_conditioning/README.md makes one.
"""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        source="data/laion_aes/teacher_made",
        pipeline=[
            dict(type="ResizeCrop", size=512),
            dict(type="RandomFlip"),
            dict(type="CaptionDropout", p=0.1),
            dict(type="PackInputs"),
        ],
    ),
)
