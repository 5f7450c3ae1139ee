"""LAION-POP at 512 x 512, center crop and flip: the data of KOALA-Turbo; see laion_pop_1024.py."""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        source="data/laion_pop/pictures",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
