"""833 captioned pictures of lambdalabs/pokemon-blip-captions at 512 x 512, center crop and flip."""

_base_ = ["./captioned_512.py"]

train_dataloader = dict(batch_size=2, num_workers=4, dataset=dict(source="lambdalabs/pokemon-blip-captions"))
