"""Five photographs of one dog, diffusers/dog-example, at 1024 x 1024; see dreambooth_dog_512.py."""

_base_ = ["./dreambooth_dog_512.py"]

train_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type="ResizeCrop", size=1024, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")]
    )
)
