"""The dog of dreambooth_dog_512.py with prior preservation: 200 class pictures, weight 1 (Kim et al., 2023, sec. 5)."""

_base_ = ["./dreambooth_dog_512.py"]

train_dataloader = dict(
    batch_size=1,  # pairs
    dataset=dict(class_images=dict(prompt="a photo of a dog", count=200, weight=1.0, batch_size=8)),
)
