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
from mmengine.dataset import InfiniteSampler, default_collate
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import default_collate as torch_collate

from diffdistill.datasets import CaptionedImages, CaptionList
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


@pytest.mark.parametrize("word", ["None", "NA", "null", "N/A", "nan", "n/a", "<NA>", "#N/A", "NULL"])
@pytest.mark.parametrize("file", ["metadata.csv", "list.csv"])
def test_words_that_pandas_takes_for_missing_values_are_captions(folder, file, word):
    (folder / "metadata.csv").unlink()
    column = "file_name" if file == "metadata.csv" else "image"
    (folder / file).write_text(f"{column},text\n00.png,{word}\n01.png,a dog\n")
    source = folder if file == "metadata.csv" else folder / file
    assert [item["caption"] for item in CaptionedImages(source)] == [word, "a dog"]
    assert CaptionList(source)[0]["caption"] == word


# Samples that cannot be used


def skipped(item: dict) -> list[dict]:
    return [json.loads(line) for line in item["skipped"].splitlines()]


def spoil(folder: Path) -> None:
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:60])
    (folder / "07.png").write_text("this is no picture")
    (folder / "08.png").unlink()


def test_the_next_readable_row_replaces_a_bad_one(folder):
    spoil(folder)
    data = CaptionedImages(folder, max_skipped=0.5)
    items = [data[row] for row in range(12)]
    replaced = {1: 2, 7: 9, 8: 9}
    assert [item["caption"] for item in items] == [CAPTIONS[replaced.get(row, row)] for row in range(12)]
    assert items[7]["sample"] == "row 9 (09.png)"
    assert [record["row"] for item in items for record in skipped(item)] == [1, 7, 8, 8]
    assert skipped(items[7]) == [
        dict(source=str(folder), row=7, file="07.png", reason="it is no picture of a kind that can be read"),
        dict(source=str(folder), row=8, file="08.png", reason="there is no such file"),
    ]


@pytest.mark.parametrize("caption", [None, []])
def test_a_missing_caption_is_skipped(folder, caption):
    rows = [{"image": "00.png", "text": ["a dog"]}, {"image": "01.png", "text": caption}]
    data = CaptionedImages(write_jsonl(folder / "list.jsonl", *rows))
    assert data[1]["caption"] == "a dog"
    assert skipped(data[1])[0] | {"source": ""} == dict(
        source="", row=1, file="01.png", reason="there is no caption in 'text'"
    )


def test_an_empty_field_of_a_csv_is_a_missing_caption_and_empty_text_of_a_jsonl_a_caption(folder):
    (folder / "list.csv").write_text("image,text\n00.png,a dog\n01.png,\n")
    assert skipped(CaptionedImages(folder / "list.csv")[1])
    rows = [{"image": "00.png", "text": ""}, {"image": "01.png", "text": "  "}]
    assert [item["caption"] for item in CaptionedImages(write_jsonl(folder / "list.jsonl", *rows))] == ["", "  "]


def test_one_bad_sample_may_always_be_skipped_the_first_as_well(folder):
    (folder / "00.png").write_bytes(b"")
    data = CaptionedImages(folder)
    assert data[0]["sample"] == "row 1 (01.png)"
    assert data.most_skipped == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"row 8 \(08.png\): there is no such file; 2 of 12 samples cannot be used, and max_skipped=0.01 of",
        ),
        ({"max_skipped": 0}, r"row 7 \(07.png\): .*; 1 of 12 samples cannot be used, and max_skipped=0 of"),
    ],
)
def test_more_bad_rows_in_a_row_than_may_be_skipped_are_one_line(folder, options, message):
    spoil(folder)
    data = CaptionedImages(folder, **options)
    with pytest.raises(InputError, match=message) as error:
        data[7]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [-0.1, 1.5, "1%", True, float("nan"), None])
def test_a_share_is_from_0_to_1(folder, share):
    with pytest.raises(InputError, match=r"max_skipped=.* is no share of the samples; use a number from 0 to 1"):
        CaptionedImages(folder, max_skipped=share)


def test_a_set_without_any_usable_row_is_refused_at_once(folder):
    source = write_jsonl(folder / "list.jsonl", {"image": "elsewhere/00.png", "text": "a dog"})
    with pytest.raises(InputError, match=r"row 0 \(elsewhere/00.png\): there is no such file; none of the 1 samples"):
        CaptionedImages(source)


def test_skipping_is_the_same_in_workers_and_reaches_the_batch(folder):
    spoil(folder)
    data = CaptionedImages(folder, max_skipped=0.5, pipeline=[{"type": "ResizeCrop", "size": 32}, {"type": "PackInputs"}])
    for collate in (default_collate, torch_collate):
        alone, workers = (list(DataLoader(data, batch_size=4, num_workers=number, collate_fn=collate)) for number in (0, 2))
        for one, other in zip(alone, workers, strict=True):
            assert torch.equal(one.pop("pixel_values"), other.pop("pixel_values"))
            assert torch.equal(one.pop("time_ids"), other.pop("time_ids"))
            assert one == other
    assert alone[0]["sample"] == ["row 0 (00.png)", "row 2 (02.png)", "row 2 (02.png)", "row 3 (03.png)"]
    assert [json.loads(line)["row"] for line in "".join(alone[1]["skipped"]).splitlines()] == [7, 8]


@pytest.mark.parametrize("workers", [0, 3])
def test_a_set_smaller_than_a_batch_and_than_the_number_of_workers_goes_round(folder, workers):
    source = write_jsonl(folder / "list.jsonl", {"image": "00.png", "text": "a dog"})
    data = CaptionedImages(source, pipeline=[{"type": "PackInputs"}])
    loader = DataLoader(data, 4, sampler=InfiniteSampler(data), num_workers=workers, collate_fn=default_collate)
    batches = iter(loader)
    assert [next(batches)["sample"] for _ in range(2)] == [["row 0 (00.png)"] * 4] * 2


# Paths


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../outside.png", "its path leads out of the folder of the data set"),
        ("a/../../outside.png", "its path leads out of the folder of the data set"),
        ("{folder}/../outside.png", "its path leads out of the folder of the data set"),
        ("../../../../../../../../etc/passwd", "its path leads out of the folder of the data set"),
        ("/etc/passwd", "it is no picture of a kind that can be read"),
        ("http://127.0.0.1:9/a.png", "it is an address, and nothing is fetched"),
        ("file:///{folder}/00.png", "it is an address, and nothing is fetched"),
        ("s3://bucket/a.png", "it is an address, and nothing is fetched"),
        ("/dev/zero", "there is no such file"),
        ("pipe", "there is no such file"),
        (".", "there is no such file"),
        ("00.png\0.png", "there is no such file"),
        ("x" * 300, "File name too long"),
        ("", "the row names no picture"),
        (None, "the row names no picture"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_path_that_leads_elsewhere_is_skipped(folder, kind, path, reason):
    shutil.copy(folder / "00.png", folder.parent / "outside.png")
    os.mkfifo(folder / "pipe")
    path = path and path.format(folder=folder)
    rows = [dict(image="01.png", text="a dog"), dict(image=path, text="a cat")]
    if kind == "parquet":
        rows = [row | {"image": dict(bytes=None, path=row["image"])} for row in rows]
    source = folder / f"list.{kind}"
    table = datasets.Dataset.from_list(rows)
    getattr(table, {"jsonl": "to_json"}.get(kind, f"to_{kind}"))(source)
    data = CaptionedImages(source)
    assert data[1]["caption"] == "a dog"
    assert reason in skipped(data[1])[0]["reason"]


def test_absolute_paths_links_and_detours_inside_the_folder_are_read(folder):
    outside = shutil.copy(folder / "00.png", folder.parent / "outside.png")
    (folder / "link.png").symlink_to(outside)
    paths = [str(outside), "link.png", "nowhere/../00.png"]
    data = CaptionedImages(write_jsonl(folder / "list.jsonl", *(dict(image=path, text="a dog") for path in paths)))
    assert [skipped(data[row]) for row in range(3)] == [[], [], []]


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


def put_into_cache(name: str, parquet: Path) -> None:
    """As an earlier run would have left the data set somebody/<name>."""
    builder = Parquet(dataset_name=name, data_files={"train": [str(parquet)]}, hash="0" * 16)
    builder.download_and_prepare()
    cached = Path(datasets.config.HF_DATASETS_CACHE) / f"somebody___{name}" / "default" / "0.0.0" / builder.hash
    shutil.move(builder.cache_dir, cached)


def test_offline_a_hub_name_is_read_from_the_cache(folder, table, tmp_path):
    put_into_cache("shapes", as_parquet_of_structs(folder, table, tmp_path))
    assert [item["caption"] for item in CaptionedImages("somebody/shapes")] == CAPTIONS


@pytest.mark.parametrize("relative", [True, False])
def test_a_data_set_of_the_hub_reads_no_file_of_this_machine(folder, relative, monkeypatch):
    monkeypatch.chdir(folder)
    path = "00.png" if relative else str(folder / "00.png")
    file = folder / "table.parquet"
    datasets.Dataset.from_list([dict(image=dict(bytes=None, path=path), text="a dog")]).to_parquet(file)
    put_into_cache(f"thief{relative}".lower(), file)
    with pytest.raises(InputError, match="a data set of the Hub names a file that is no part of it"):
        CaptionedImages(f"somebody/thief{relative}".lower())


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
