"""Recipes of published data sets, from local files: what is fetched, resumed and written, and what is said offline."""

import dataclasses
import json
import os
import sys
import tarfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import runs
import tiny
from PIL import Image

from diffdistill.datasets import CaptionedImages, CaptionList, DreamBoothDataset
from diffdistill.datasets.fetching import check_disk, download, fetch
from diffdistill.datasets.recipes import RECIPES, Recipe
from diffdistill.errors import InputError

# Writes what img2dataset writes as "files", of addresses that are files here: pictures, captions, and a table a shard.
PROGRAM = """#!{python}
import json, pathlib, shutil, sys
import pyarrow.parquet
given = dict(word[2:].split("=", 1) for word in sys.argv[1:])
assert given["output_format"] == "files" and given["resize_mode"] == "keep_ratio"
rows = pyarrow.parquet.read_table(given["url_list"]).to_pylist()
out = pathlib.Path(given["output_folder"])
out.mkdir(parents=True, exist_ok=True)
for shard in range(0, len(rows), 10_000):
    name = f"{{shard // 10_000:05d}}"
    if (out / f"{{name}}_stats.json").exists():
        continue
    (out / name).mkdir()
    table = []
    for number, row in enumerate(rows[shard : shard + 10_000]):
        key, file = f"{{name}}{{number:04d}}", pathlib.Path(row["url"].removeprefix("file://"))
        come = file.exists()
        if come:
            shutil.copy(file, out / name / f"{{key}}.jpg")
            (out / name / f"{{key}}.txt").write_text(row["caption"])
        table.append(dict(row, key=key, status="success" if come else "failed_to_download", width=40 if come else None,
                          height=24 if come else None))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), out / f"{{name}}.parquet")
    (out / f"{{name}}_stats.json").write_text(json.dumps({{"count": len(table)}}))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program on the path that stands for img2dataset, which does not install beside this package."""
    file = tmp_path / "bin" / "img2dataset"
    file.parent.mkdir()
    file.write_text(PROGRAM.format(python=sys.executable))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")
    return file


@pytest.fixture
def addresses(tmp_path):
    """A folder `out` with a table of addresses as LAION-POP has it, put there by hand; one picture is missing."""
    pictures, out = tmp_path / "web", tmp_path / "out"
    pictures.mkdir()
    (out / "addresses").mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (40, 24), (50 * number, 0, 0)).save(pictures / f"{number}.jpg")
    rows = [
        dict(url=f"file://{pictures}/{number}.jpg", cogvlm_caption=f"picture {number}", alt_txt="x") for number in range(6)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out / "addresses" / "laion_pop.parquet")
    return out


def test_pictures_of_a_table_become_a_source_of_the_shipped_config(program, addresses, capfd):
    ended = runs.tool("get_data", "laion_pop", addresses, "--limit", 6)
    assert ended.code == 0, ended
    assert "491,567 pictures" in ended.out
    assert f"done: source={addresses}/pictures" in ended.out
    data = CaptionedImages(addresses / "pictures")
    assert len(data) == 5  # the sixth did not come
    assert [data.read(row)["caption"] for row in range(5)] == [f"picture {row}" for row in range(5)]
    assert data.read(3)["image"].size == (40, 24)
    assert data.picture_sizes().tolist() == [[24, 40]] * 5  # of the table's columns


def test_it_goes_on_where_it_was(program, addresses):
    fetch(RECIPES["laion_pop"], addresses, limit=2)
    assert len(CaptionedImages(addresses / "pictures")) == 2
    shard = addresses / "pictures" / "img2dataset" / "00000"
    before = (shard / "000000000.jpg").stat().st_mtime_ns
    fetch(RECIPES["laion_pop"], addresses)  # the table of addresses is written once
    assert (shard / "000000000.jpg").stat().st_mtime_ns == before


def test_a_table_without_the_column_names_those_it_has(program, addresses):
    pyarrow.parquet.write_table(pyarrow.table(dict(url=["x"], text=["y"])), addresses / "addresses" / "laion_pop.parquet")
    with pytest.raises(InputError, match="no column cogvlm_caption or llava_caption or caption; the columns are url, text"):
        fetch(RECIPES["laion_pop"], addresses)


def test_a_program_that_fails_or_fetches_nothing_is_named(program, addresses):
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(InputError, match="img2dataset has ended with 3"):
        fetch(RECIPES["laion_pop"], addresses)
    program.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(InputError, match="img2dataset has fetched nothing; without a network put its output there"):
        fetch(RECIPES["laion_pop"], addresses)


def archive_of(folder: Path, name: str) -> Path:
    """An archive of the folder `name` of captioned pictures, as BK-SDM's authors publish them."""
    tiny.write_captioned_folder(folder / name)
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(folder / name, name)
    return folder / f"{name}.tar.gz"


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_archive_becomes_the_folder_that_the_configs_name(tmp_path, by_hand):
    (tmp_path / "web").mkdir()
    archive, out = archive_of(tmp_path / "web", "preprocessed_212k"), tmp_path / "laion_aes"
    recipe = dataclasses.replace(
        RECIPES["laion_aesthetics"], files={f"file://{archive}": "preprocessed_212k.tar.gz"}, disk=0
    )
    if by_hand:
        out.mkdir()
        archive.rename(out / archive.name)  # nothing is left to fetch
    found = fetch(recipe, out)
    assert found == out / "preprocessed_212k"
    assert len(CaptionedImages(found)) == 12
    assert (out / "preprocessed_212k.tar.gz").exists()
    (out / "preprocessed_212k.tar.gz").unlink()
    fetch(recipe, out)  # what is unpacked needs no archive
    assert not (out / "preprocessed_212k.tar.gz").exists()


def test_the_rest_of_a_file_is_fetched(tmp_path):
    there, file = tmp_path / "there.bin", tmp_path / "here" / "file.bin"
    there.write_bytes(bytes(range(256)) * 100)
    file.parent.mkdir()
    partial = file.with_name("file.bin.partial")
    partial.write_bytes(b"x" * 1000)  # stands for what came before
    download(f"file://{there}", file)
    assert file.read_bytes() == b"x" * 1000 + there.read_bytes()[1000:]
    assert not partial.exists()


def test_a_damaged_archive_leaves_no_folder(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    recipe = Recipe("", reads="a", disk=0, files={"file:///nowhere/a.tar.gz": "a.tar.gz"})
    with pytest.raises(InputError, match=r"a\.tar\.gz is damaged"):
        fetch(recipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("name", list(RECIPES))
def test_without_a_network_each_says_at_once_what_to_do(name, program, tmp_path, monkeypatch):
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setattr("diffdistill.datasets.fetching.shutil.disk_usage", lambda _: Free)
    start = time.monotonic()
    ended = runs.tool("get_data", name, tmp_path / "data")
    assert time.monotonic() - start < 20
    assert not (tmp_path / "data").exists()
    runs.assert_one_line(ended, "cannot be reached", "put a copy of it", RECIPES[name].hub or "https://", tmp_path / "data")


class Free:
    """A disk with room for everything."""

    free = 10**14


def test_a_recipe_that_does_not_fit_the_disk_is_refused(tmp_path):
    recipe = dataclasses.replace(RECIPES["coco_30k"], disk=10**18)
    with pytest.raises(InputError, match=r"it takes about 1,000,000,000 GB, and .* are free"):
        check_disk(recipe, tmp_path / "data")


def test_a_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="pipx install img2dataset"):
        fetch(RECIPES["laion_pop"], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_lies_there_is_not_fetched(tmp_path):
    (tmp_path / "pokemon" / "data").mkdir(parents=True)
    table = pyarrow.table(dict(image=[b"picture"], text=["a"]))
    pyarrow.parquet.write_table(table, tmp_path / "pokemon" / "data" / "train.parquet")
    assert fetch(RECIPES["pokemon_blip"], tmp_path / "pokemon") == tmp_path / "pokemon"
    (tmp_path / "dog").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "dog" / "a.jpeg")
    assert len(DreamBoothDataset(str(fetch(RECIPES["dreambooth_dog"], tmp_path / "dog")), "a photo of sks dog")) == 1
    for path in RECIPES["coco_30k"].files.values():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("file_name,text\na.png,a dog\n")
    assert len(CaptionList(fetch(RECIPES["coco_30k"], tmp_path))) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["laion_popp", "x"], "no recipe 'laion_popp'; there are laion_aesthetics"),
        (["laion_pop", "x", "--limit", "0"], "limit=0"),
    ],
)
def test_bad_arguments_are_named(args, words):
    runs.assert_one_line(runs.tool("get_data", *args), words)


def test_a_dry_run_writes_nothing(tmp_path):
    ended = runs.tool("get_data", "coco_30k", tmp_path / "data", "--dry-run")
    assert ended.code == 0, ended
    assert "30,000 captions" in ended.out
    assert not (tmp_path / "data").exists()


def test_recipes_lead_to_what_the_configs_read():
    """OUT of docs/recipes.md and `reads` make the paths that the configs name."""
    outs = dict(laion_aesthetics="data/laion_aes", laion_art="data/laion_art", laion_pop="data/laion_pop",
                grit_midjourney="data/grit_midjourney", coco_30k="data")  # fmt: skip
    bases = runs.ROOT / "configs" / "_base_"
    text = "".join(path.read_text() for path in (*bases.glob("datasets/*.py"), *bases.glob("evaluation/*.py")))
    for name, out in outs.items():
        assert f'"{out}/{RECIPES[name].reads}"' in text
        assert f"get_data {name} {out}\n" in (runs.ROOT / "docs" / "recipes.md").read_text()
    assert json.dumps(sorted(RECIPES)) == json.dumps(sorted([*outs, "pokemon_blip", "dreambooth_dog"]))
