"""Lists of aspect buckets, and the crop to the nearest of them."""

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from diffdistill.datasets import BucketCrop, PackInputs, ResizeCrop
from diffdistill.datasets.buckets import PUBLISHED, kept_share, make_buckets
from diffdistill.errors import InputError


def test_sdxl_has_its_forty_published_buckets():
    buckets = PUBLISHED["sdxl"]
    assert len(set(buckets)) == len(buckets) == 40
    assert all(height % 64 == width % 64 == 0 for height, width in buckets)
    assert max(height * width for height, width in buckets) == 1024**2
    # The rounded aspect ratios that the table of appendix I prints.
    shapes = [round(height / width, 2) for height, width in buckets]
    assert shapes[:8] == [0.25, 0.26, 0.27, 0.28, 0.32, 0.33, 0.35, 0.4]
    assert shapes[-8:] == [2.5, 2.89, 3.0, 3.11, 3.62, 3.75, 3.88, 4.0]


def test_buckets_of_a_budget_are_published_ones_where_there_are_such():
    made = make_buckets(1024**2)
    assert len(made) == 17
    assert set(made) <= set(PUBLISHED["sdxl"])


@pytest.mark.parametrize(
    ("pixels", "step", "most"), [(512**2, 64, 4.0), (512 * 512, 32, 2.0), (700**2, 16, 3.0), (10_000, 8, 1.5)]
)
def test_buckets_of_any_budget(pixels, step, most):
    made = make_buckets(pixels, step, most)
    assert len(set(made)) == len(made)
    assert set(made) == {(width, height) for height, width in made}
    for height, width in made:
        assert height % step == width % step == 0
        assert height * width <= pixels
        assert max(height, width) <= most * min(height, width)
        assert (max(height, width) + step) * min(height, width) > pixels, "a wider one would have fitted"


def test_a_picture_takes_the_bucket_of_which_it_loses_least():
    crop, rng = BucketCrop(buckets="sdxl"), np.random.default_rng(0)
    sizes = rng.integers(20, 3000, (500, 2))
    chosen = crop.sizes_after(sizes)
    kept = np.array([kept_share(sizes, np.array(bucket)) for bucket in PUBLISHED["sdxl"]])
    np.testing.assert_allclose(kept_share(sizes, chosen), kept.max(0))
    for size, bucket in zip(sizes[:20], chosen, strict=False):
        item = dict(image=Image.new("L", (int(size[1]), int(size[0]))))
        assert crop.size_of(item) == tuple(bucket)


def test_a_crop_to_a_bucket_is_resize_crop_to_its_size():
    picture = tiny.coordinates(200, 117)
    for crop in ("center", "random"):
        torch.manual_seed(0)
        ours = BucketCrop(size=64, step=16, crop=crop)(dict(image=picture))
        torch.manual_seed(0)
        theirs = ResizeCrop((48, 80), crop=crop)(dict(image=picture))
        assert ours["image"].tobytes() == theirs["image"].tobytes()
        assert {name: ours[name] for name in ours if name != "image"} == {n: theirs[n] for n in theirs if n != "image"}


def test_random_crops_move_and_central_ones_do_not():
    for crop, moves in dict(center=False, random=True).items():
        transform, picture = BucketCrop(size=32, step=8, crop=crop), tiny.coordinates(90, 40)
        assert (len({transform(dict(image=picture))["crop_top_left"] for _ in range(20)}) > 1) == moves


def test_micro_conditioning_has_the_bucket_as_its_target():
    item = PackInputs()(BucketCrop(size=32, step=8)(dict(image=tiny.coordinates(120, 60), caption="a dog")))
    assert item["pixel_values"].shape == (3, 16, 64) or item["pixel_values"].shape == (3, 24, 40)
    assert item["time_ids"][:2].tolist() == [60, 120]
    assert item["time_ids"][4:].tolist() == list(item["pixel_values"].shape[1:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(), "give one of size, pixels and buckets"),
        (dict(size=512, buckets="sdxl"), "give one of size, pixels and buckets"),
        (dict(buckets="sd3"), "buckets='sd3' is unknown"),
        (dict(buckets=[]), "is empty"),
        (dict(buckets=[(64, 0)]), "must be positive"),
        (dict(size=48), "step=64; lower step"),
        (dict(size=0), "size=0 must be at least 1"),
        (dict(size=512, max_aspect=0.5), "max_aspect=0.5 must be at least 1"),
        (dict(size=512, crop="left"), "crop='left' is unknown"),
    ],
)
def test_bad_buckets_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        BucketCrop(**arguments)
