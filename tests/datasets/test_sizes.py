"""Sizes of pictures from columns and headers, of which nothing is decoded, and the items that keep to them."""

import io
from collections import Counter

import datasets
import numpy as np
import pyarrow
import pytest
from PIL import Image, ImageFile
from tiny import write_pictures

from diffdistill import errors
from diffdistill.datasets import CaptionedImages
from diffdistill.datasets.pictures import header_size
from diffdistill.datasets.sizes import _values
from diffdistill.errors import InputError

PIPELINE = [dict(type="BucketCrop", size=32, step=8), dict(type="PackInputs")]


@pytest.fixture
def decoded(monkeypatch):
    """The pictures that have been decoded so far."""
    seen = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: (seen.append(picture), load(picture))[1])
    return seen


def test_sizes_are_read_from_headers_without_decoding(captioned_folder, decoded):
    data = CaptionedImages(captioned_folder, pipeline=PIPELINE)
    decoded.clear()
    sizes, items = data.picture_sizes(), data.item_sizes()
    assert decoded == []
    assert len(sizes) == len(items) == 12
    assert tuple(sizes[2]) != Image.open(captioned_folder / "02.png").size[::-1]  # which is turned by its EXIF tag
    for row in range(12):
        assert data.read(row)["image"].size[::-1] == tuple(sizes[row])
        assert data[row]["pixel_values"].shape[1:] == tuple(items[row])


def test_headers_are_read_once(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "data", [(32, 32), (40, 24), (24, 40)])
    first = CaptionedImages(folder).picture_sizes()
    monkeypatch.setattr("diffdistill.datasets.sizes.header_size", None)
    np.testing.assert_array_equal(CaptionedImages(folder).picture_sizes(), first)


@pytest.mark.parametrize("kind", ["encoded", "bytes", "paths"])
def test_sizes_of_pictures_in_a_table(tmp_path, kind, decoded):
    folder = write_pictures(tmp_path / "data", [(32, 32), (40, 24), (24, 40)])
    files = sorted(map(str, folder.glob("*.png")))
    content = [open(file, "rb").read() for file in files]  # noqa: PTH123, SIM115
    column = dict(encoded=[dict(bytes=each, path=None) for each in content], bytes=content, paths=files)[kind]
    rows = datasets.Dataset.from_dict(dict(image=column, text=["a", "b", "c"]))
    if kind == "encoded":
        rows = rows.cast_column("image", datasets.Image())
    rows.save_to_disk(tmp_path / "saved")
    data = CaptionedImages(tmp_path / "saved")
    decoded.clear()
    assert data.picture_sizes().tolist() == [[32, 32], [24, 40], [40, 24]]
    assert decoded == []


@pytest.mark.parametrize("names", [("width", "height"), ("WIDTH", "HEIGHT"), ("original_width", "original_height")])
def test_columns_of_sizes_are_read_instead(tmp_path, names, monkeypatch):
    sizes = [(32, 32), (40, 24), (24, 40), (64, 16)] * 10
    columns = dict(zip(names, ([20 * size[i] for size in sizes] for i in (0, 1)), strict=True))
    columns[names[0]][5] = ""  # which the header says
    data = CaptionedImages(write_pictures(tmp_path / "data", sizes, columns))
    looked = Counter()
    monkeypatch.setattr(
        "diffdistill.datasets.sizes.header_size", lambda value, folder: (looked.update([1]), header_size(value, folder))[1]
    )
    found = data.picture_sizes()
    assert looked[1] == 16 + 1  # a sample of them, and the one that is missing
    expected = [[20 * height, 20 * width] for width, height in sizes]
    expected[5] = [24, 40]
    assert found.tolist() == expected


def test_columns_that_are_wrong_are_not_believed(tmp_path, caplog):
    errors.warn_once.cache_clear()
    sizes = [(32, 32), (40, 24), (24, 40)] * 4
    columns = dict(width=[height for _, height in sizes], height=[width for width, _ in sizes])  # the wrong way round
    found = CaptionedImages(write_pictures(tmp_path / "data", sizes, columns)).picture_sizes()
    assert "height and width are not the sizes of the pictures" in caplog.text
    assert found.tolist() == [[height, width] for width, height in sizes]


def test_a_row_that_cannot_be_read_has_no_size_of_its_own(tmp_path):
    folder = write_pictures(tmp_path / "data", [(32, 32), (40, 24), (24, 40), (24, 40)])
    (folder / "001.png").write_bytes(b"no picture")
    data = CaptionedImages(folder, pipeline=PIPELINE, max_skipped=1)
    assert data.picture_sizes()[1].tolist() == [0, 0]
    assert data.item_sizes()[1].tolist() == data.item_sizes()[2].tolist() == [40, 24]
    alone = write_pictures(tmp_path / "alone", [(32, 32)])
    data = CaptionedImages(alone, pipeline=PIPELINE)
    (alone / "000.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="the header of no picture can be read"):
        data.item_sizes()


def test_a_bad_row_is_replaced_by_the_next_of_its_bucket(tmp_path):
    folder = write_pictures(tmp_path / "data", [(40, 24), (32, 32), (24, 40), (40, 24), (16, 64)])
    data = CaptionedImages(folder, pipeline=PIPELINE, max_skipped=1)
    data.item_sizes()
    for bad in (0, 4):
        header = (folder / f"{bad:03d}.png").read_bytes()[:45]  # which says its size
        (folder / f"{bad:03d}.png").write_bytes(header)
    assert data[0]["sample"].startswith("row 3 ")
    alone = data[4]  # no other row has its bucket: the next one is cropped to it
    assert alone["sample"].startswith("row 1 ")
    assert alone["pixel_values"].shape == (3, 64, 16)
    assert "row" in alone["skipped"]


def test_bytes_of_an_encoded_picture_are_not_copied():
    """A header is read from a view of the table: reading it as a whole would read the whole data set."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    column = pyarrow.chunked_array([pyarrow.array([buffer.getvalue(), None])])
    first, second = _values(column)
    assert second is None
    assert first.size() == len(buffer.getvalue())
