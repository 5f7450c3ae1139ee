"""Five photographs of one dog, diffusers/dog-example, at 512 x 512: the example of diffusers' DreamBooth scripts.

A local copy: `mim run diffdistill get_data dreambooth_dog data/dog` (docs/recipes.md).
Your own pictures: `train_dataloader.dataset.source=FOLDER train_dataloader.dataset.prompt="a photo of sks cat"`. With prior
preservation: `train_dataloader.dataset.class_images.prompt="a photo of a dog"`; `batch_size` then counts pairs.
"""

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="DreamBoothDataset",
        source="diffusers/dog-example",
        prompt="a photo of sks dog",
        pipeline=[dict(type="ResizeCrop", size=512, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")],
    ),
)
