"""Captioned pictures at 1024 x 1024, center crop and flip; children say which (`source`) and how many to a batch."""

_base_ = ["./captioned_512.py"]

train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="ResizeCrop", size=1024), dict(type="RandomFlip"), dict(type="PackInputs")])
)
