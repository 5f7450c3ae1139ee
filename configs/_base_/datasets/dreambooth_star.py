"""Five pictures of stars, a shape that the embedded pipelines have never seen, and class pictures of those that they know.

Validated on 64 captions of stars, in which "s" stands for the new shape, and on 128 old ones (half of them held out).
"""

train_dataloader = dict(
    batch_size=4,  # pairs
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="DreamBoothDataset",
        source="diffdistill::star_pictures",
        prompt=None,  # the captions of the pictures: "a large red s on a white background at the left"
        class_images=dict(
            prompt=[
                "a small green square on a yellow background at the top",
                "a small blue triangle on a cyan background at the bottom",
                "a small yellow cross on a black background at the left",
                "a large magenta circle on a green background",
                "a large cyan square on a yellow background",
                "a large white triangle on a cyan background in the centre",
                "a small red square on a cyan background at the left",
                "a small green triangle on a black background",
                "a small blue cross on a green background",
                "a small yellow circle on a magenta background in the centre",
                "a large magenta square on a white background at the right",
                "a large white cross on a blue background at the top",
                "a large black circle on a magenta background at the bottom",
                "a small red triangle on a blue background in the centre",
                "a small green cross on a magenta background at the right",
                "a small blue circle on a white background",
                "a large magenta triangle on a blue background at the bottom",
                "a large cyan cross on a magenta background at the left",
                "a large white circle on a black background",
                "a large black square on a green background",
                "a small red cross on a white background at the top",
                "a small green circle on a red background at the bottom",
                "a small blue square on a yellow background at the left",
                "a small yellow triangle on a cyan background",
            ],
            count=72,
            weight=0.3,  # with 1, nothing at all is forgotten, and the star is learnt more slowly
            batch_size=24,
        ),
        pipeline=[dict(type="ResizeCrop", size=32), dict(type="PackInputs")],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="StarCaptions", word="s", stars=64, length=128, seed=0),
)
val_evaluator = dict(type="StarAccuracy")
val_cfg = dict()
