"""Conditions on rows of a table: what they keep, what they say, and what is none."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffdistill.datasets import CaptionedImages
from diffdistill.datasets.filters import Filter
from diffdistill.errors import InputError

ROWS = [
    dict(aesthetic=5.0, license="cc0", nsfw=None),
    dict(aesthetic=7.5, license="cc by", nsfw=0.1),
    dict(aesthetic=8.0, license="cc0", nsfw=0.9),
    dict(aesthetic=None, license=None, nsfw=0.2),
]


@pytest.fixture
def table(tmp_path):
    """Four pictures, 10, 20, 30 and 40 high and 50 wide, with what ROWS says of them."""
    for number in range(4):
        Image.new("RGB", (50, 10 * (number + 1))).save(tmp_path / f"{number}.png")
    rows = [dict(image=f"{number}.png", text=f"picture {number}", **row) for number, row in enumerate(ROWS)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "list.jsonl")


def kept(dataset: CaptionedImages) -> list[int]:
    return [int(dataset[index]["caption"].split()[1]) for index in range(len(dataset))]


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["aesthetic > 7.5"], [2]),
        (["aesthetic >= 7.5"], [1, 2]),
        (["aesthetic < 7.5"], [0]),
        (["aesthetic<=7.5"], [0, 1]),
        (["aesthetic == 8"], [2]),
        (["aesthetic != 8"], [0, 1]),
        (['license == "cc0"'], [0, 2]),
        (['license != "cc0"'], [1]),
        (["aesthetic > 5", "nsfw < 0.5"], [1]),
    ],
)
def test_a_table_and_a_row_alone_are_filtered_alike(table, texts, numbers):
    assert kept(CaptionedImages(table, filters=texts)) == numbers
    assert [number for number, row in enumerate(ROWS) if all(Filter(text).keeps(row) for text in texts)] == numbers


def test_every_step_says_what_it_leaves_and_rows_keep_their_numbers(table):
    dataset = CaptionedImages(table, filters=["aesthetic > 5"], min_size=20, max_samples=1)
    assert [line.removeprefix(f"{table}: ") for line in dataset.narrowed] == [
        "the filter 'aesthetic > 5' leaves 2 of 4 rows",
        "min_size=20 leaves 2 of 2 rows",
        "max_samples=1 leaves 1 of 2 rows",
    ]
    assert dataset[0]["sample"] == "row 1 (1.png)"


def test_a_least_size_is_that_of_the_shorter_side(table):
    assert kept(CaptionedImages(table, min_size=30)) == [2, 3]


def test_columns_of_sizes_are_taken_where_there_are_some(table, tmp_path):
    """Of the shapes that the pictures have, here those of pictures ten times as large."""
    lines = [
        json.loads(line) | dict(width=500, height=100 * (number + 1))
        for number, line in enumerate(Path(table).read_text().splitlines())
    ]
    (tmp_path / "sized.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert kept(CaptionedImages(str(tmp_path / "sized.jsonl"), min_size=300)) == [2, 3]


def test_a_picture_of_too_many_pixels_is_a_bad_sample(table):
    dataset = CaptionedImages(table, max_pixels=1500, max_skipped=0.5)
    assert kept(dataset) == [0, 1, 2, 0]
    bad = json.loads(dataset[3]["skipped"])
    assert (bad["row"], bad["reason"]) == (3, "it has 50 x 40 pixels, more than max_pixels=1,500")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            dict(filters=["beauty > 1"]),
            "'beauty > 1': there is no column 'beauty'; the columns are image, text, aesth",
        ),
        (dict(filters=["aesthetic > 99"]), "the filter 'aesthetic > 99' leaves none of 4 rows"),
        (dict(filters=["aesthetic > 5", "nsfw > 0.9"]), "the filter 'nsfw > 0.9' leaves none of 2 rows"),
        (dict(filters=['aesthetic == "high"']), "column 'aesthetic' holds float64"),
        (dict(filters=["license > 3"]), "column 'license' holds string"),
        (dict(filters=["__import__('os')"]), "is no condition; write e.g. 'aesthetic > 7.5'"),
        (dict(filters=["aesthetic > high"]), "is no condition; write e.g."),
        (dict(filters=["aesthetic > true"]), "compares with neither a number nor a text"),
        (dict(filters="aesthetic > 7"), "must be a list of conditions"),
        (dict(min_size=1000), "min_size=1000 leaves none of 4 rows"),
        (dict(min_size=0), "min_size=0 must be a whole number, at least 1"),
        (dict(max_pixels=0), "max_pixels=0 must be a whole number, at least 1"),
        (dict(max_samples=0), "max_samples=0 must be a whole number, at least 1"),
    ],
)
def test_mistakes_are_one_line(table, options, words):
    with pytest.raises(InputError) as caught:
        CaptionedImages(table, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
