"""Aspect buckets: lists of sizes, the crop, sizes without decoding, and batches of one bucket over ranks and epochs."""

import io
from collections import Counter
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow
import pytest
import tiny
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from PIL import Image, ImageFile

from diffdistill import errors
from diffdistill.datasets import AspectBatchSampler, BucketCrop, CaptionedImages, PackInputs, ResizeCrop
from diffdistill.datasets.batches import deal
from diffdistill.datasets.buckets import PUBLISHED, kept_share, make_buckets
from diffdistill.datasets.pictures import header_size
from diffdistill.datasets.sizes import _values
from diffdistill.engine.runner import build_dataloader
from diffdistill.errors import InputError

PIPELINE = [dict(type="BucketCrop", size=32, step=8), dict(type="PackInputs")]


def write_pictures(folder, sizes, columns=None):
    """Pictures of `sizes` (width, height) with captions, and the `columns` of metadata.csv beside them."""
    folder.mkdir(exist_ok=True)
    lines = [",".join(["file_name", "text", *(columns or {})])]
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number % 256, 0, 0)).save(folder / f"{number:03d}.png")
        more = [str(values[number]) for values in (columns or {}).values()]
        lines.append(",".join([f"{number:03d}.png", f"picture {number}", *more]))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The pictures that have been decoded so far."""
    seen = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: (seen.append(picture), load(picture))[1])
    return seen


class Sized:
    """A data set of items of the given sizes, without the items."""

    def __init__(self, sizes):
        self.sizes = np.array(sizes)

    def __len__(self):
        return len(self.sizes)

    def item_sizes(self):
        return self.sizes


def batches_on(ranks, dataset, batch_size, monkeypatch, sampler=DefaultSampler, **options):
    """The batch samplers of `ranks` ranks, as each of them makes its own."""
    made = []
    for rank in range(ranks):
        monkeypatch.setattr("diffdistill.datasets.batches.get_dist_info", lambda rank=rank: (rank, ranks))
        made.append(AspectBatchSampler(sampler(dataset, seed=3, **options), batch_size))
    return made


MIXED = [(32, 32)] * 17 + [(24, 40)] * 9 + [(40, 24)] * 1 + [(16, 64)] * 4


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


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_every_sample_comes_once_an_epoch(ranks, batch_size, monkeypatch):
    dataset = Sized(MIXED)
    samplers = batches_on(ranks, dataset, batch_size, monkeypatch)
    epochs = [list(sampler) for sampler in samplers]
    assert {len(batches) for batches in epochs} == {len(sampler) for sampler in samplers} == {len(samplers[0])}
    seen = Counter(index for batches in epochs for batch in batches for index in batch)
    repeated = -len(MIXED) % ranks if batch_size == 1 else 0
    assert set(seen) == set(range(len(MIXED)))
    assert sum(seen.values()) == len(MIXED) + repeated
    for batches in epochs:
        for batch in batches:
            assert 1 <= len(batch) <= batch_size
            assert len({tuple(dataset.sizes[index]) for index in batch}) == 1


def test_batches_are_dealt_out_evenly():
    assert deal(np.array([17, 9, 1]), 8, 1).tolist() == [3, 2, 1]
    assert deal(np.array([17, 9, 1]), 8, 4).tolist() == [4, 3, 1]
    assert deal(np.array([2, 1]), 1, 2).tolist() == [2, 1]  # there is nothing to divide


def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch):
    (one,), (other,) = (batches_on(1, Sized(MIXED), 4, monkeypatch) for _ in range(2))
    assert list(one) == list(other)
    assert list(one.batches(0)) == list(one.batches(0)) != list(one.batches(1))
    assert any(sorted(a) != sorted(b) for a, b in zip(one.batches(0), one.batches(1), strict=True))
    other.sampler.seed = 4
    assert list(other.batches(0)) != list(one.batches(0))
    (still,) = batches_on(1, Sized(MIXED), 4, monkeypatch, shuffle=False)
    assert list(still.batches(0)) == list(still.batches(1))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_can_start_at_any_batch(ranks, monkeypatch):
    for sampler in batches_on(ranks, Sized(MIXED), 4, monkeypatch, InfiniteSampler):
        endless, length = iter(sampler), len(sampler)
        whole = [next(endless) for _ in range(3 * length)]
        assert whole[length : 2 * length] == list(sampler.batches(1))
        for first in (1, length - 1, length, 2 * length + 1):
            sampler.first = first
            later = iter(sampler)
            assert [next(later) for _ in range(2)] == (whole + list(sampler.batches(3)))[first : first + 2]


def test_default_sampler_says_which_epoch_it_is(monkeypatch):
    (sampler,) = batches_on(1, Sized(MIXED), 4, monkeypatch)
    sampler.sampler.set_epoch(5)
    assert list(sampler) == list(sampler.batches(5))


def test_small_buckets_are_named_in_one_line(monkeypatch, caplog):
    errors.warn_once.cache_clear()
    batches_on(1, Sized(MIXED), 8, monkeypatch)
    (line,) = caplog.messages
    assert "2 of 4 aspect buckets have fewer pictures than a batch of 8: 16x64 (4), 40x24 (1); their batches" in line


def test_what_the_sampler_cannot_do_is_named(monkeypatch):
    with pytest.raises(InputError, match="list does not tell the sizes of its items"):
        batches_on(1, [1, 2], 8, monkeypatch)
    with pytest.raises(InputError, match="needs sampler"):
        AspectBatchSampler(SimpleNamespace(dataset=Sized(MIXED)))


def test_a_loader_of_mixed_pictures_pads_nothing(tmp_path):
    sizes = [(32, 32), (40, 24), (24, 40), (64, 16), (33, 31)] * 4
    folder = tmp_path / "data"
    write_pictures(folder, sizes)
    for number, (width, height) in enumerate(sizes):
        Image.new("RGB", (width, height), "white").save(folder / f"{number:03d}.png")
    loader = build_dataloader(
        dict(
            batch_size=3,
            dataset=dict(type="CaptionedImages", source=str(folder), pipeline=PIPELINE),
            sampler=dict(type="DefaultSampler", shuffle=True),
            batch_sampler=dict(type="AspectBatchSampler"),
            collate_fn=dict(type="default_collate"),
        ),
        seed=0,
    )
    seen, shapes = Counter(), Counter()
    for batch in loader:
        seen.update(batch["caption"])
        shapes[tuple(batch["pixel_values"].shape[2:])] += len(batch["caption"])
        assert (batch["pixel_values"] == 1).all(), "a pixel is padded"
    assert len(loader) == len(list(loader.batch_sampler))
    assert set(seen.values()) == {1}
    assert len(seen) == 20
    assert shapes == {(32, 32): 8, (24, 40): 4, (40, 24): 4, (16, 64): 4}


def test_bytes_of_an_encoded_picture_are_not_copied():
    """A header is read from a view of the table: reading it as a whole would read the whole data set."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    column = pyarrow.chunked_array([pyarrow.array([buffer.getvalue(), None])])
    first, second = _values(column)
    assert second is None
    assert first.size() == len(buffer.getvalue())
