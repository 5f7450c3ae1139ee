"""Commands on a disk that is full or read-only: one line that says what to do, and nothing half-written or lost."""

import os
import shutil
from pathlib import Path

import datasets
import pytest
from disks import make_read_only, small_disk
from huggingface_hub import constants
from runs import SHAPES, assert_one_line, options, shapes, tool

from diffdistill.datasets.sources import open_source
from diffdistill.errors import InputError

PAGE = os.sysconf("SC_PAGE_SIZE")  # what a disk in memory counts in


def fill(disk: Path, pages_left: int) -> None:
    """Fill the disk but for so many pages."""
    with (disk / "mine").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(file.tell() - pages_left * PAGE)


@pytest.mark.parametrize("name", ["make_student", "export", "sample", "benchmark"])
def test_a_full_disk(name, shapes_run, thin_sdxl, tmp_path):
    given, student = options(**shapes(thin_sdxl)), shapes_run.work_dir / "unet"
    with small_disk(tmp_path / "disk") as disk:
        out = disk / "out"
        arguments = dict(
            make_student=(SHAPES, out, *given),
            export=(SHAPES, student, out, *given),
            sample=(f"{SHAPES}={student}", "--prompt", *"abc", "--steps", 1, "--out", out, *given),
            benchmark=("inference", thin_sdxl, "--parts", "step", "--rounds", 1, "--warmup", 1, "--json", out),
        )
        if name == "benchmark":
            out.write_text("old")
        fill(disk, 0 if name == "benchmark" else 2)
        size = (disk / "mine").stat().st_size
        ended = tool(name, *arguments[name])
        assert_one_line(ended, str(out), "No space left on device; free space there, or choose another disk")
        assert not list(disk.rglob(".*"))
        assert (disk / "mine").stat().st_size == size
        assert out.is_dir() if name == "sample" else not out.is_dir()
        assert name != "benchmark" or out.read_text() == "old"


def test_a_read_only_disk(shapes_run, thin_sdxl, tmp_path):
    given = options(**shapes(thin_sdxl))
    with small_disk(tmp_path / "disk", "16m") as disk:
        run = shutil.copytree(shapes_run.work_dir, disk / "run")
        make_read_only(disk)
        assert_one_line(tool("report", run), f"{run}/report.html: Read-only file system; choose a place")
        assert_one_line(tool("report", run, "--out", disk / "a.html"), f"--out={disk}/a.html: ")
        ended = tool("test", SHAPES, "--checkpoint", run / "unet", "--work-dir", run, *given)
        assert_one_line(ended, f"--work-dir={run}: ")
        ended = tool("test", SHAPES, "--checkpoint", run / "unet", "--work-dir", tmp_path, "--json", disk / "a", *given)
        assert_one_line(ended, f"--json={disk}/a: ")
        assert_one_line(tool("benchmark", "inference", "x", "--csv", disk / "a"), f"--csv={disk}/a: ")
        ended = tool("report", run, "--out", tmp_path / "elsewhere.html")
        assert ended.code == 0, ended


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("image,text\na.png,a dog\n")
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setattr(constants, "HF_HOME", str(disk))
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(disk / "datasets"))
        make_read_only(disk)
        with pytest.raises(InputError) as caught:
            open_source(str(tmp_path / "table.csv"), "train")
    trouble = f"the cache in {disk} cannot be written (Read-only file system); set HF_HOME to a folder that can be"
    assert str(caught.value) == f"{tmp_path}/table.csv: {trouble}"


def test_samples_are_written_over_samples_alone(thin_sdxl, tmp_path):
    draw = ("sample", thin_sdxl, "--prompt", "a", "--steps", 1, "--out", tmp_path)
    for _ in range(2):
        ended = tool(*draw)
        assert ended.code == 0, ended
    (tmp_path / "sdxl_0.png").write_bytes(b"mine")
    assert_one_line(tool(*draw), f"--out={tmp_path}: sdxl_0.png there is no sample")
    assert (tmp_path / "sdxl_0.png").read_bytes() == b"mine"
    for folder in (thin_sdxl, thin_sdxl / "unet", thin_sdxl / "new"):
        assert_one_line(tool(*draw[:-1], folder), f"--out={folder}")
    assert not list(thin_sdxl.rglob("*.png"))


def test_make_shapes_writes_over_nothing(tmp_path):
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "model_index.json").write_text("{}")
    assert_one_line(tool("make_shapes", tmp_path, "--layout", "sd"), f"{tmp_path}/sd is not empty; name a new folder")
    assert (tmp_path / "sd" / "model_index.json").read_text() == "{}"
