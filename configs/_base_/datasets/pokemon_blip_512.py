"""833 captioned pictures of lambdalabs/pokemon-blip-captions at 512 x 512, center crop and flip."""

_base_ = ["./captioned.py"]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    dataset=dict(
        source="lambdalabs/pokemon-blip-captions",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
