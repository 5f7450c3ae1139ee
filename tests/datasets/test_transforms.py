"""Transforms: the time ids must say where the pixels really come from."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import coordinates
from torch.utils.data import default_collate

from diffdistill.datasets import CaptionDropout, PackInputs, RandomFlip, ResizeCrop
from diffdistill.datasets.pictures import upright_rgb
from diffdistill.errors import InputError
from diffdistill.registry import TRANSFORMS

SIZES = [(32, 32), (200, 100), (100, 200), (251, 33), (97, 203), (20, 31), (16, 250)]  # width, height


def run(picture, *transforms):
    item = {"image": picture, "caption": "a ramp"}
    for transform in transforms:
        item = transform(item)
    return item


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("target", [32, (24, 40)])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_come_from_where_the_time_ids_say(size, target, crop, flip):
    width, height = size
    item = run(coordinates(width, height), ResizeCrop(target, crop), RandomFlip(p=flip), PackInputs())
    original_height, original_width, top, left, target_height, target_width = item["time_ids"].tolist()
    assert (original_height, original_width) == (height, width)
    assert (target_height, target_width) == item["pixel_values"].shape[1:] == ((32, 32) if target == 32 else target)

    scale = max(target_height / height, target_width / width)
    red, green, _ = (item["pixel_values"] + 1) * 127.5
    column = (left + torch.arange(target_width) + 0.5) / scale - 0.5  # in the original picture, mirrored where it was
    column = width - 1 - column if flip else column
    row = (top + torch.arange(target_height) + 0.5) / scale - 0.5
    tolerance = 1 + max(1, 1 / scale)  # of rounding to whole pixels, before and after resizing
    assert (red - column.clamp(0, width - 1)).abs().max() <= tolerance
    assert (green - row.clamp(0, height - 1)[:, None]).abs().max() <= tolerance


@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_that_of_the_resized_picture(size):
    torch.manual_seed(0)  # greys, since Pillow clips and rounds between its two passes, whose order varies
    picture = Image.fromarray(torch.randint(96, 160, (size[1], size[0], 3), dtype=torch.uint8).numpy())
    item = run(picture, ResizeCrop(32, "random"))
    (height, width), (top, left) = item["resized_size"], item["crop_top_left"]
    assert min(height, width) == 32
    expected = picture.resize((width, height), Image.Resampling.LANCZOS).crop((left, top, left + 32, top + 32))
    assert np.abs(np.asarray(item["image"], dtype=int) - np.asarray(expected)).max() <= 2


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (3, 4000), (4000, 3)])
@pytest.mark.parametrize("crop", ["center", "random"])
def test_nothing_is_padded(size, crop):
    item = run(Image.new("RGB", size, "white"), ResizeCrop((40, 24), crop), PackInputs())
    assert item["pixel_values"].min() == 1


def test_a_picture_of_the_target_size_is_untouched():
    picture = coordinates(40, 24)
    item = run(picture, ResizeCrop((24, 40), "random"))
    assert np.array_equal(item["image"], picture)


def test_center_crop_is_central_and_random_crop_visits_every_position():
    picture = coordinates(40, 32)
    assert run(picture, ResizeCrop(32))["crop_top_left"] == (0, 4)
    torch.manual_seed(0)
    seen = {run(picture, ResizeCrop(32, "random"))["crop_top_left"] for _ in range(200)}
    assert seen == {(0, left) for left in range(9)}


def test_a_flip_before_the_crop_needs_no_correction():
    item = run(coordinates(40, 32), RandomFlip(p=1), ResizeCrop(32), PackInputs())
    assert item["time_ids"].tolist() == [32, 40, 0, 4, 32, 32]


def test_torch_seed_replays_every_choice():
    transforms = ResizeCrop(32, "random"), RandomFlip(), CaptionDropout(0.5), PackInputs()

    def draw():
        torch.manual_seed(3)
        return default_collate([run(coordinates(90, 40), *transforms) for _ in range(8)])

    first, second = draw(), draw()
    torch.testing.assert_close(first["pixel_values"], second["pixel_values"], rtol=0, atol=0)
    torch.testing.assert_close(first["time_ids"], second["time_ids"], rtol=0, atol=0)
    assert first["caption"] == second["caption"]
    assert len(set(first["caption"])) == 2
    assert len(first["time_ids"].unique(dim=0)) > 1


def test_items_collate_to_a_batch():
    batch = default_collate([run(coordinates(*size), ResizeCrop(32), PackInputs()) for size in SIZES])
    assert batch["pixel_values"].shape == (len(SIZES), 3, 32, 32)
    assert batch["time_ids"].shape == (len(SIZES), 6)
    assert batch["pixel_values"].dtype == batch["time_ids"].dtype == torch.float32
    assert batch["caption"] == ["a ramp"] * len(SIZES)


def test_black_and_white_are_minus_one_and_one():
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((1, 0), (255, 255, 255))
    item = run(picture, PackInputs())
    assert item["pixel_values"].tolist() == [[[-1, 1]]] * 3
    assert item["time_ids"].tolist() == [1, 2, 0, 0, 1, 2]  # no crop: the picture is its own target


@pytest.mark.parametrize(("p", "expected"), [(0, 0), (0.25, 250), (1, 1000)])
def test_chance_is_as_configured(p, expected):
    torch.manual_seed(0)
    picture = coordinates(2, 1)
    dropped = sum(run(picture, CaptionDropout(p))["caption"] == "" for _ in range(1000))
    flipped = sum(run(picture, RandomFlip(p))["image"].getpixel((0, 0))[0] == 1 for _ in range(1000))
    assert dropped == pytest.approx(expected, abs=45)
    assert flipped == pytest.approx(expected, abs=45)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tag_is_obeyed(orientation):
    picture = coordinates(40, 30)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # tag: the transpose that a viewer undoes
    stored = picture.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else picture.copy()
    stored.getexif()[0x0112] = orientation
    assert np.array_equal(upright_rgb(stored), picture)


def test_every_mode_becomes_rgb_on_white():
    red = (255, 0, 0)
    clear = Image.new("RGBA", (4, 4), (*red, 0))
    half = Image.new("RGBA", (4, 4), (*red, 128))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, *red])
    see_through = palette.copy()
    see_through.info["transparency"] = 1
    sixteen = Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))
    cases = [
        (clear, (255, 255, 255)),
        (half, (255, 127, 127)),
        (palette, red),
        (see_through, (255, 255, 255)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), red),
        (sixteen, (128, 128, 128)),
        (sixteen.convert("I"), (128, 128, 128)),
    ]
    for picture, expected in cases:
        upright = upright_rgb(picture)
        assert (upright.mode, upright.getpixel((1, 1))) == ("RGB", expected), picture.mode


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "ResizeCrop", "size": 0}, "size=0"),
        ({"type": "ResizeCrop", "size": 32, "crop": "middle"}, "'center' or 'random'"),
        ({"type": "RandomFlip", "p": 1.5}, "p=1.5"),
        ({"type": "CaptionDropout", "p": -1}, "p=-1"),
    ],
)
def test_a_bad_option_is_refused_when_the_config_is_built(config, message):
    with pytest.raises(InputError, match=message):
        TRANSFORMS.build(config)
