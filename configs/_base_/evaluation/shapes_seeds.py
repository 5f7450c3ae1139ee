"""The accuracy of shapes as their runs measure it, and beside it whether other seeds of a caption give other pictures."""

test_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="ShapesCaptions", length=256, seed=0),
)
test_evaluator = [dict(type="CaptionAccuracy"), dict(type="PositionEntropy")]
test_cfg = dict()
