"""833 captioned pictures of lambdalabs/pokemon-blip-captions at 512 x 512, center crop and flip."""

_base_ = ["./pokemon_blip_1024.py"]

train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")])
)
