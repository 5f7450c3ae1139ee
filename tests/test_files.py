"""What is on disk is whole or not there, wherever its writing is stopped."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from disks import killed_before_each, make_read_only, small_disk, with_largest_file
from safetensors.torch import save_file

from diffdistill.errors import InputError
from diffdistill.files import (
    check_file,
    check_new_folder,
    finish_all_writing,
    finish_writing,
    read_json,
    write_file_whole,
    write_text_whole,
    write_whole,
)

OLD, NEW = dict(a="old", b="old"), dict(a="new", c="new")


def write(content: dict[str, str]):
    """A writer of a folder with these files."""

    def into(folder: Path) -> None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)

    return into


def content(folder: Path) -> dict[str, str] | None:
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else None


def test_a_folder_is_replaced_whole_wherever_its_writing_is_killed(tmp_path):
    folder, found = tmp_path / "unet", []
    write_whole(write(OLD), folder)
    for _ in killed_before_each(lambda: write_whole(write(NEW), folder)):
        found.append(content(folder))
        finish_writing(folder)
        assert content(folder) == (found[-1] or NEW)
        assert [path.name for path in tmp_path.iterdir()] == ["unet"]
        write_whole(write(OLD), folder)  # whoever writes next is not disturbed
        assert content(folder) == OLD
    assert [each for each in found if each not in (OLD, NEW)] == [None]  # between the two renames
    assert found[-1] == NEW


def test_what_stood_between_the_renames_is_the_new_one(tmp_path):
    write(OLD)(tmp_path / ".unet.old")
    write(NEW)(tmp_path / ".unet.partial")
    finish_all_writing(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["unet"]
    assert content(tmp_path / "unet") == NEW


def test_leftovers_are_cleared_and_other_hidden_files_are_not(tmp_path):
    write(OLD)(tmp_path / "unet")
    write(NEW)(tmp_path / ".unet.partial")
    for name in (".results.json.partial", ".hidden", "x.partial"):
        (tmp_path / name).write_text("")
    finish_all_writing(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "unet", "x.partial"]
    assert content(tmp_path / "unet") == OLD


def test_a_file_is_replaced_whole_wherever_its_writing_is_killed(tmp_path):
    file = tmp_path / "results.json"
    file.write_text("old")
    for _ in killed_before_each(lambda: write_text_whole(file, "new")):
        last = file.read_text()
        assert last in ("old", "new")
        finish_all_writing(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert last == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_keeps_the_old_one_and_leaves_nothing_beside_it(error, tmp_path):
    def fail(path: Path) -> None:
        write(NEW)(path) if path.name == ".unet.partial" else path.write_text("new")
        raise error("x")

    write_whole(write(OLD), tmp_path / "unet")
    write_text_whole(tmp_path / "file", "old")
    with pytest.raises(error, match="x"):
        write_whole(fail, tmp_path / "unet")
    with pytest.raises(error, match="x"):
        write_file_whole(fail, tmp_path / "file")
    assert content(tmp_path / "unet") == OLD
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def save_weights(folder: Path) -> None:
    folder.mkdir()
    save_file(dict(weight=torch.zeros(2**18)), folder / "model.safetensors")


@pytest.mark.parametrize("save", [save_weights, write(dict(a="x" * 2**20))], ids=["safetensors", "text"])
def test_a_full_disk_names_the_folder_and_keeps_the_old_one(save, tmp_path):
    write_whole(write(OLD), tmp_path / "unet")
    assert with_largest_file(2**16, lambda: write_whole(save, tmp_path / "unet")) == errno.EFBIG
    assert content(tmp_path / "unet") == OLD
    with small_disk(tmp_path / "disk", "512k") as disk:
        write_whole(write(OLD), disk / "unet")
        with pytest.raises(OSError, match=r"No space left on device: '.*/disk/unet'"):
            write_whole(save, disk / "unet")
        assert content(disk / "unet") == OLD
        assert [path.name for path in disk.iterdir()] == ["unet"]
        make_read_only(disk)
        with pytest.raises(OSError, match=r"Read-only file system: '.*/disk/file'"):
            write_text_whole(disk / "file", "text")
        with pytest.raises(InputError, match=r"--json=.*file: .*Read-only file system; choose a folder"):
            check_file(str(disk / "file"), "--json")


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "true").mkdir()
    (tmp_path / "link").symlink_to("true")
    write_whole(write(NEW), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "true") == NEW
    (tmp_path / "file").symlink_to("true/a")
    write_text_whole(tmp_path / "file", "text")
    assert (tmp_path / "true" / "a").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_file(str(tmp_path / "pipe"), "--json")
    write_text_whole(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)


def test_only_a_dict_is_read(tmp_path):
    file = tmp_path / "results.json"
    assert read_json(file) == {}
    file.write_text(json.dumps(dict(a=1)))
    assert read_json(file) == dict(a=1)
    for damaged in (b'{"a": ', b"", b"[1]", b"null", b"\xff", b"[" * 100_000):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"results\.json is damaged: .*; get or make it again"):
            read_json(file)
    with file.open("wb") as opened:
        opened.truncate(2**27)
    with pytest.raises(InputError, match=r"results\.json is larger than 64 MiB"):
        read_json(file)


def test_a_new_folder_is_new(tmp_path):
    check_new_folder(str(tmp_path), "OUT")
    check_new_folder(str(tmp_path / "a" / "b"), "OUT")
    (tmp_path / "file").write_text("")
    for taken in (tmp_path, tmp_path / "file", tmp_path / ("x" * 300)):
        with pytest.raises(InputError):
            check_new_folder(str(taken), "OUT")
