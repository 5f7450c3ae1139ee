"""Captioned pictures: every kind of source, read from real files, and one clear line for each that cannot work."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
import torch
from datasets.packaged_modules.parquet.parquet import Parquet
from PIL import Image
from torch.utils.data import DataLoader

from diffdistill.datasets import CaptionedImages
from diffdistill.errors import InputError
from diffdistill.registry import DATASETS

CAPTIONS = ["a red circle", "a green square", "a blue triangle", "a yellow circle", "a red square", "a green triangle"]
CAPTIONS += ["a blue circle", "a yellow square", "a red triangle", "a green circle", "a blue square", "a yellow triangle"]


@pytest.fixture
def folder(captioned_folder, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(captioned_folder, tmp_path / "pictures")


@pytest.fixture
def table(captioned_folder):
    """The same pictures and captions as a table of the `datasets` library."""
    return datasets.load_dataset(str(captioned_folder), split="train")


def write_jsonl(path: Path, *rows: dict) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def as_folder(folder, table, tmp_path):
    return folder


def as_folder_with_jsonl(folder, table, tmp_path):
    rows = [line.split(",")[:2] for line in (folder / "metadata.csv").read_text().splitlines()[1:]]
    write_jsonl(folder / "metadata.jsonl", *({"file_name": name, "caption": caption} for name, caption in rows))
    (folder / "metadata.csv").unlink()
    return folder


def as_parquet_file(folder, table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def as_parquet_folder(folder, table, tmp_path):
    (tmp_path / "parquet").mkdir()
    return as_parquet_file(folder, table, tmp_path / "parquet").parent


def as_parquet_of_bytes(folder, table, tmp_path, pack=bytes):
    """As other programs write it: without a note in the schema that the column holds pictures."""
    files = sorted(path for path in folder.iterdir() if path.suffix != ".csv")
    rows = {"image": [pack(path.read_bytes()) for path in files], "text": CAPTIONS}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "plain.parquet")
    return tmp_path / "plain.parquet"


def as_parquet_of_structs(folder, table, tmp_path):
    return as_parquet_of_bytes(folder, table, tmp_path, pack=lambda content: {"bytes": content, "path": "x.png"})


def as_saved_to_disk(folder, table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def as_saved_splits(folder, table, tmp_path):
    datasets.DatasetDict(train=table, test=table.select(range(2))).save_to_disk(tmp_path / "splits")
    return tmp_path / "splits"


def as_jsonl_of_paths(folder, table, tmp_path):
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".csv")
    rows = [{"image": f"{folder.name}/{name}", "prompt": caption} for name, caption in zip(names, CAPTIONS, strict=True)]
    return write_jsonl(tmp_path / "list.jsonl", *rows)


def as_csv_of_paths(folder, table, tmp_path):
    text = (folder / "metadata.csv").read_text().replace("file_name,", "image,")
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


@pytest.mark.parametrize(
    "write",
    [
        as_folder,
        as_folder_with_jsonl,
        as_parquet_file,
        as_parquet_folder,
        as_parquet_of_bytes,
        as_parquet_of_structs,
        as_saved_to_disk,
        as_saved_splits,
        as_jsonl_of_paths,
        as_csv_of_paths,
    ],
)
def test_every_source_gives_the_same_items(write, folder, table, tmp_path, captioned_folder):
    items = list(CaptionedImages(str(write(folder, table, tmp_path))))
    assert [item["caption"] for item in items] == CAPTIONS
    assert all(item["image"].mode == "RGB" for item in items)
    assert items[2]["image"].size == (48, 32)  # stored upright as (32, 48), with an EXIF tag that turns it
    assert [item["image"] for item in items] == [item["image"] for item in CaptionedImages(captioned_folder)]


def test_a_relative_source_and_the_home_folder(captioned_folder, monkeypatch):
    monkeypatch.chdir(captioned_folder.parent)
    monkeypatch.setenv("HOME", str(captioned_folder.parent))
    for source in (captioned_folder.name, f"./{captioned_folder.name}", f"~/{captioned_folder.name}"):
        assert CaptionedImages(source)[3]["caption"] == CAPTIONS[3]


def test_split_picks_rows(folder, table, tmp_path):
    assert len(CaptionedImages(folder, split="train[:5]")) == 5
    assert len(CaptionedImages(as_saved_splits(folder, table, tmp_path), split="test")) == 2


def test_builds_from_a_config_and_loads_in_workers(captioned_folder):
    pipeline = [{"type": "ResizeCrop", "size": 32, "crop": "random"}, {"type": "RandomFlip"}, {"type": "PackInputs"}]
    data = DATASETS.build({"type": "CaptionedImages", "source": str(captioned_folder), "pipeline": pipeline})
    batches = list(DataLoader(data, batch_size=4, num_workers=2))
    assert [tuple(batch["pixel_values"].shape) for batch in batches] == [(4, 3, 32, 32)] * 3
    assert [caption for batch in batches for caption in batch["caption"]] == CAPTIONS
    assert batches[0]["time_ids"][2, :2].tolist() == [32, 48]


def test_an_edited_caption_is_seen(folder):
    assert CaptionedImages(folder)[0]["caption"] == "a red circle"
    metadata = folder / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("a red circle", "a vermilion circle"))
    assert CaptionedImages(folder)[0]["caption"] == "a vermilion circle"


# Captions


@pytest.mark.parametrize("name", ["text", "caption", "captions", "prompt", "TEXT"])
def test_caption_column_is_chosen_by_name_not_by_position(folder, name):
    source = write_jsonl(folder / "list.jsonl", {"score": 3.5, "tag": "x", "image": "00.png", name: "a dog", "other": "y"})
    assert CaptionedImages(source)[0]["caption"] == "a dog"


def test_named_columns_win(folder):
    source = write_jsonl(folder / "list.jsonl", {"picture": "01.png", "image": "00.png", "text": "a dog", "tags": "b"})
    item = CaptionedImages(source, image_column="picture", caption_column="tags")[0]
    assert (item["image"].size, item["caption"]) == ((48, 32), "b")


def test_one_of_several_captions_is_drawn(folder):
    data = CaptionedImages(write_jsonl(folder / "list.jsonl", {"image": "00.png", "text": ["one", "two", "three"]}))
    torch.manual_seed(0)
    first = [data[0]["caption"] for _ in range(30)]
    assert set(first) == {"one", "two", "three"}
    torch.manual_seed(0)
    assert [data[0]["caption"] for _ in range(30)] == first


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"tags": "x"}, {}, r"no column is named like captions; set caption_column to one of image, tags$"),
        ({"text": "x", "prompt": "y"}, {}, r"text and prompt may both be the captions; set caption_column to one of"),
        (
            {"text": "x"},
            {"caption_column": "txt"},
            r"there is no column 'txt'; the columns are image, text; set caption_column",
        ),
        ({"text": 3.5}, {}, r"column 'text' holds float64; the columns are image, text; set caption_column"),
        ({"text": []}, {}, r"column 'text' holds"),
        ({"text": "x"}, {"image_column": "img"}, r"there is no column 'img'; the columns are image, text; set image_column"),
        ({"text": "x", "n": 3}, {"image_column": "n"}, r"column 'n' holds int64; .* set image_column"),
        ({"text": "x"}, {"split": "test"}, r'Unknown split "test". Should be one of \[\'train\'\]'),
    ],
)
def test_wrong_columns_are_refused_at_once(folder, row, options, message):
    source = write_jsonl(folder / "list.jsonl", {"image": "00.png", **row})
    with pytest.raises(InputError, match=message) as error:
        CaptionedImages(source, **options)
    assert "list.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_caption_that_is_not_text_names_its_row(folder):
    rows = [{"image": "00.png", "text": "a dog"}, {"image": "01.png", "text": None}]
    data = CaptionedImages(write_jsonl(folder / "list.jsonl", *rows))
    with pytest.raises(InputError, match=r"list.jsonl: row 1 has None as its 'text', which is not text"):
        data[1]
    with pytest.raises(InputError, match="row 0 has None"):
        CaptionedImages(write_jsonl(folder / "list.jsonl", *reversed(rows)))


# Pictures and folders


def test_a_broken_picture_is_named_when_it_is_asked_for(folder):
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:60])
    (folder / "07.png").write_text("this is no picture")
    (folder / "08.png").unlink()
    data = CaptionedImages(folder)
    assert data[0]["caption"] == CAPTIONS[0]
    for row, name in ((1, "01.png"), (7, "07.png"), (8, "08.png")):
        with pytest.raises(InputError, match=rf"the picture of row {row} \(.*{name}\) cannot be read"):
            data[row]


def test_a_broken_first_picture_is_named_at_once(folder):
    source = write_jsonl(folder / "list.jsonl", {"image": "elsewhere/00.png", "text": "a dog"})
    with pytest.raises(InputError, match=r"row 0 \(elsewhere/00.png\) cannot be read: .*No such file"):
        CaptionedImages(source)


def test_pictures_without_captions_say_where_captions_belong(tmp_path):
    for name in ("cats/1.png", "dogs/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for source in (tmp_path, tmp_path / "cats"):
        with pytest.raises(InputError, match=r"list them as file_name,text in metadata.csv"):
            CaptionedImages(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "no such file or folder"),
        ("nothing.jsonl", "", "the file is empty"),
        ("header.csv", "image,text\n", "no data"),
        ("cut.jsonl", '{"image": "a.png", "te', "JSON parse error"),
        ("fake.parquet", "this is no parquet", "cannot be read"),
        ("notes.txt", "a dog", r"\.parquet / \.jsonl / \.csv"),
        ("folder/notes.xyz", "a dog", "No .*data files"),
        ("folder/state.json", "no json", "cannot be read"),
    ],
)
def test_an_unusable_source_is_refused_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    source = path.parent if name.startswith("folder/") else path
    with pytest.raises(InputError, match=message) as error:
        CaptionedImages(source)
    assert str(error.value).startswith(str(source))
    assert "\n" not in str(error.value)


def test_metadata_without_file_names_is_refused(folder):
    (folder / "metadata.csv").write_text("file,text\n00.png,a dog\n")
    with pytest.raises(InputError, match="cannot be read: `file_name`"):
        CaptionedImages(folder)


def test_nothing_to_read_is_refused(folder, table, tmp_path):
    datasets.Dataset.from_dict({"image": [], "text": []}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="saved: there are no rows"):
        CaptionedImages(tmp_path / "saved")
    with pytest.raises(InputError, match="no data"):
        CaptionedImages(folder, split="train[:0]")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: the folder is empty"):
        CaptionedImages(tmp_path / "empty")
    with pytest.raises(InputError, match="no split 'validation'; set split to one of train, test"):
        CaptionedImages(as_saved_splits(folder, table, tmp_path), split="validation")


# The Hub


def test_offline_a_hub_name_says_what_to_do():
    with pytest.raises(InputError, match=r"lambdalabs/pokemon-blip-captions: .* may be the folder of a local copy"):
        CaptionedImages("lambdalabs/pokemon-blip-captions")


def test_offline_a_hub_name_is_read_from_the_cache(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    builder = Parquet(dataset_name="shapes", data_files={"train": [str(tmp_path / "table.parquet")]}, hash="0" * 16)
    builder.download_and_prepare()
    cached = Path(datasets.config.HF_DATASETS_CACHE) / "somebody___shapes" / "default" / "0.0.0" / builder.hash
    shutil.move(builder.cache_dir, cached)  # where an earlier run would have left it
    assert [item["caption"] for item in CaptionedImages("somebody/shapes")] == CAPTIONS


@pytest.mark.processes
def test_an_unreachable_hub_is_given_up_on_quickly(tmp_path):
    script = """
from diffdistill.datasets import CaptionedImages
from diffdistill.errors import InputError
try:
    CaptionedImages("lambdalabs/pokemon-blip-captions")
except InputError as error:
    print(error)
"""
    closed = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **closed}, capture_output=True, text=True, check=True
    )
    assert "the Hugging Face Hub cannot be reached" in run.stdout, run.stderr
    assert time.monotonic() - start < 20  # `datasets` alone takes 23 seconds, and a minute and more where packets vanish
