"""DreamBooth's data: few pictures, one prompt, and as many class pictures in every batch."""

import json
import shutil

import datasets
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from diffdistill import errors
from diffdistill.datasets import CaptionedImages, DreamBoothDataset
from diffdistill.datasets.class_pictures import ClassPictures
from diffdistill.errors import InputError
from diffdistill.step import prior_weights

PIPELINE = [dict(type="ResizeCrop", size=8), dict(type="PackInputs")]
DOG, SKS = "a photo of a dog", "a photo of sks dog"


@pytest.fixture
def folder(tmp_path):
    """Five pictures, each of a grey of its own, without captions; and a file that is no picture."""
    (tmp_path / "dogs").mkdir()
    for i in range(5):
        Image.new("RGB", (10, 8), (10 * i,) * 3).save(tmp_path / "dogs" / f"{i}.{'jpg' if i == 2 else 'png'}")
    (tmp_path / "dogs" / "notes.txt").write_text("rex")
    return tmp_path / "dogs"


def write_class(path, count: int, start: int = 0, prompt: str = DOG) -> str:
    made = ClassPictures(prompt, folder=path, count=start + count)
    for index in range(start, start + count):
        made.save(index, torch.full((8, 8, 3), 200 + index, dtype=torch.uint8).numpy())
    return str(path)


def greys(batch: dict) -> list[int]:
    return ((batch["pixel_values"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_a_bare_folder_of_pictures_with_one_prompt(folder):
    data = DreamBoothDataset(folder, SKS, pipeline=PIPELINE)
    assert len(data) == 5
    (batch,) = DataLoader(data, batch_size=5)
    assert batch["caption"] == [SKS] * 5
    assert greys(batch) == [0, 10, 20, 30, 40]
    assert batch["time_ids"][0].tolist() == [8, 10, 0, 1, 8, 8]
    assert "weight" not in batch


def test_a_table_of_the_datasets_library(folder, tmp_path):
    files = [str(path) for path in sorted(folder.glob("*.*")) if path.suffix != ".txt"]
    table = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image())
    table.save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "table.parquet")
    for source in ("saved", "table.parquet"):
        data = DreamBoothDataset(tmp_path / source, SKS, pipeline=PIPELINE)
        assert greys(next(iter(DataLoader(data, batch_size=5)))) == [0, 10, 20, 30, 40]
    with pytest.raises(InputError, match="there is no column 'picture'; set image_column to one of image"):
        DreamBoothDataset(tmp_path / "table.parquet", SKS, image_column="picture")


def test_without_a_prompt_each_picture_has_its_own_caption(captioned_folder, tmp_path):
    wanted = dict(folder=write_class(tmp_path / "class", 2), prompt=DOG, count=2)
    data = DreamBoothDataset(captioned_folder, None, wanted, PIPELINE)
    plain = CaptionedImages(captioned_folder, pipeline=PIPELINE)
    for i in (0, 2, 5, 11):
        instance, _ = data[i]
        assert instance["caption"] == plain[i]["caption"]
        torch.testing.assert_close(instance["pixel_values"], plain[i]["pixel_values"], rtol=0, atol=0)


def test_without_a_prompt_unreadable_pictures_are_left_out_with_their_captions(captioned_folder, tmp_path, caplog):
    errors.warn_once.cache_clear()
    folder = shutil.copytree(captioned_folder, tmp_path / "pictures")
    (folder / "01.png").write_bytes(b"")
    data = DreamBoothDataset(folder, None)
    assert [data[i]["caption"] for i in range(3)] == ["a red circle", "a blue triangle", "a yellow circle"]
    assert "1 of 12 pictures cannot be used and are left out: row 1 (01.png): the file is empty" in caplog.text
    assert json.loads(data.left_out) == dict(source=str(folder), row=1, file="01.png", reason="the file is empty")


def test_without_a_prompt_a_missing_caption_leaves_its_picture_out(captioned_folder, tmp_path):
    folder = shutil.copytree(captioned_folder, tmp_path / "pictures")
    (folder / "metadata.csv").write_text("file_name,text\n00.png,\n01.png,None\n")
    data = DreamBoothDataset(folder, None)
    assert [data[i]["caption"] for i in range(len(data))] == ["None"]


def test_items_are_named_and_one_that_has_gone_is_one_line(folder, tmp_path):
    data = DreamBoothDataset(folder, SKS, dict(prompt=DOG, count=1, folder=write_class(tmp_path / "class", 1)), PIPELINE)
    assert [item["sample"] for item in data[1]] == ["instance 1 (1.png)", "class picture class_00000.png"]
    (folder / "1.png").unlink()
    with pytest.raises(InputError, match=r"dogs: instance 1 \(1.png\): there is no such file$"):
        data[1]
    (tmp_path / "class" / "class_00000.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"class: class_00000.png: the file is empty$"):
        data[0]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_has_as_many_class_pictures_with_their_weight(folder, tmp_path, size, workers):
    wanted = dict(folder=write_class(tmp_path / "class", 7), prompt=DOG, count=7, weight=0.25)
    data = DreamBoothDataset(folder, SKS, wanted, PIPELINE)
    assert len(data) == 7
    batches = list(DataLoader(data, batch_size=size, num_workers=workers))
    for batch in batches:
        pairs = len(batch["caption"]) // 2
        assert batch["caption"] == [SKS, DOG] * pairs
        torch.testing.assert_close(batch["weight"], torch.tensor([2.0, 0.5] * pairs), rtol=0, atol=0)
    pairs = [tuple(greys(batch)[i : i + 2]) for batch in batches for i in range(0, len(batch["caption"]), 2)]
    assert pairs == [(10 * (i % 5), 200 + i) for i in range(7)]


def test_the_mean_over_a_batch_is_the_paper_s_sum_of_means(folder, tmp_path):
    """L_instance + lambda L_class (Ruiz et al., 2022, eq. 2)."""
    wanted = dict(folder=write_class(tmp_path / "class", 4), prompt=DOG, count=4, weight=0.3)
    (batch,) = DataLoader(DreamBoothDataset(folder, SKS, wanted, PIPELINE), batch_size=5)
    losses = torch.rand(10)
    torch.testing.assert_close((batch["weight"] * losses).mean(), losses[::2].mean() + 0.3 * losses[1::2].mean())
    torch.testing.assert_close(batch["weight"], prior_weights(torch.tensor([False, True] * 5), 0.3))


def test_fewer_class_pictures_than_instances_repeat(folder, tmp_path):
    wanted = dict(folder=write_class(tmp_path / "class", 2), prompt=DOG, count=2)
    (batch,) = DataLoader(DreamBoothDataset(folder, SKS, wanted, PIPELINE), batch_size=5)
    assert greys(batch)[1::2] == [200, 201, 200, 201, 200]


# Class pictures in their folder


def test_missing_class_pictures_go_on_where_they_stopped(tmp_path):
    write_class(tmp_path, 2)
    write_class(tmp_path, 1, start=3)
    (tmp_path / "class_00004.png").write_bytes(b"")  # a disk that was full
    (tmp_path / "class_00009.png").write_bytes((tmp_path / "class_00000.png").read_bytes())  # of a larger count
    assert ClassPictures(DOG, tmp_path, count=6).missing() == [2, 4, 5]
    assert ClassPictures(DOG, tmp_path, count=2).missing() == []
    assert ClassPictures(DOG, tmp_path / "nowhere", count=2).missing() == ClassPictures(DOG, count=2).missing() == [0, 1]


def test_several_prompts_are_taken_in_turn(tmp_path):
    pictures = ClassPictures([DOG, "a photo of a cat"], write_class(tmp_path, 3, prompt=[DOG, "a photo of a cat"]), count=3)
    assert [pictures[i]["caption"] for i in range(3)] == [DOG, "a photo of a cat", DOG]


def test_photographs_of_the_class_count_too(folder):
    assert ClassPictures(DOG, folder, count=7).missing() == [0, 1]
    write_class(folder, 2)
    pictures = ClassPictures(DOG, folder, count=7)
    assert not pictures.missing()
    assert {pictures[i]["caption"] for i in range(7)} == {DOG}


def test_pictures_of_another_class_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds pictures of 'a photo of a dog' .* asks for 'a photo of a cat'"):
        ClassPictures("a photo of a cat", write_class(tmp_path, 1), count=1)


def test_an_interrupted_save_leaves_no_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", lambda self, path, **_: path.write_bytes(b"\x89PNG") and 1 / 0)
    pictures = ClassPictures(DOG, tmp_path, count=1)
    with pytest.raises(ZeroDivisionError):
        pictures.save(0, torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    assert ClassPictures(DOG, tmp_path, count=1).missing() == [0]
    assert not list(tmp_path.glob("*.png"))


# Bad input


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            dict(prompt=DOG, count=5, generate=False),
            "has 2 pictures of class_images.count=5, and .*generate=False",
        ),
        (dict(prompt=""), "class_images.prompt='' names no class"),
        (dict(prompt=[]), "class_images.prompt=.* names no class"),
        (dict(prompt=DOG, count=0), "class_images.count=0 must be at least 1"),
        (dict(prompt=DOG, batch_size=0), "class_images.batch_size=0 must be at least 1"),
        (dict(prompt=DOG, weight=-1), "class_images.weight=-1 must be at least 0"),
    ],
)
def test_class_pictures_that_cannot_be_are_refused_at_once(folder, tmp_path, wanted, message):
    wanted["folder"] = write_class(tmp_path / "class", 2)
    with pytest.raises(InputError, match=message):
        DreamBoothDataset(folder, SKS, wanted)


def test_items_wait_for_the_class_pictures(folder, tmp_path):
    data = DreamBoothDataset(folder, SKS, dict(prompt=DOG, count=3, folder=write_class(tmp_path / "class", 1)), PIPELINE)
    with pytest.raises(InputError, match=r"has 1 pictures of class_images.count=3; a training generates the others first"):
        data[0]


def test_unreadable_pictures_are_left_out_counted_and_named_once(folder, caplog):
    errors.warn_once.cache_clear()
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (folder / "4.png").write_bytes(b"")
    (folder / "5.heic").write_bytes(b"from a phone")
    for _ in range(2):  # for the check, and for the run
        data = DreamBoothDataset(folder, SKS, pipeline=PIPELINE)
    assert len(data) == 3
    (message,) = caplog.messages
    assert f"{folder}: 3 of 6 pictures cannot be used and are left out: row 0 (0.png): " in message
    assert "row 4 (4.png): the file is empty; row 5 (5.heic): it is no picture of a kind that can be read" in message


def test_pictures_none_of_which_can_be_read_are_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"none of the 2 pictures can be used: row 0 \(a.png\): the file is empty") as error:
        DreamBoothDataset(tmp_path, SKS)
    assert "\n" not in str(error.value)


def test_a_folder_without_pictures_says_where_they_are(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: there is no picture in the folder; put those of the subject there"):
        DreamBoothDataset(tmp_path / "empty", SKS)
    with pytest.raises(InputError, match=r"no picture in the folder; name one of the folders in it: dogs$"):
        DreamBoothDataset(tmp_path, SKS)
    with pytest.raises(InputError, match="no such file or folder"):
        DreamBoothDataset(tmp_path / "nowhere.d" / "deep", SKS)
    with pytest.raises(InputError, match="the pictures have no captions"):
        DreamBoothDataset(folder, None)


@pytest.mark.parametrize("prompt", ["", "  "])
def test_a_prompt_is_needed(folder, prompt):
    with pytest.raises(InputError, match=r"names no subject; write e\.g\. 'a photo of sks dog'"):
        DreamBoothDataset(folder, prompt)
