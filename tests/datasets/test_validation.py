import json

import datasets
import pytest

from diffdistill.datasets import CaptionList
from diffdistill.errors import InputError

CAPTIONS = ["a red circle", "a dog, small", "a blue square"]


def write(kind: str, folder):
    file = folder / f"captions.{kind}"
    if kind == "txt":
        file.write_text("a red circle\n\n  a dog, small \na blue square\n")
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(dict(id=1, captions=[caption, "another"])) + "\n" for caption in CAPTIONS))
    elif kind == "csv":
        file.write_text("file_name,text\n" + "".join(f'x.jpg,"{caption}"\n' for caption in CAPTIONS))
    else:
        datasets.Dataset.from_dict(dict(prompt=CAPTIONS)).to_parquet(file)
    return file


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet"])
def test_captions_come_in_order_with_seeds_of_their_own(kind, tmp_path):
    source = write(kind, tmp_path)
    every = CaptionList(source, seed=2)
    assert [every[i]["caption"] for i in range(len(every))] == CAPTIONS
    assert [every[i]["seed"] for i in range(3)] == [2_000_006, 2_000_007, 2_000_008]
    assert [item["seed"] for item in (CaptionList(source)[1], CaptionList(source, seed=1)[1])] == [1, 1_000_004]
    assert len(CaptionList(source, limit=2)) == 2


def test_pictures_are_left_alone(captioned_folder):
    """A folder of captioned pictures is a list of captions too; row 5 is a JPEG that need not be opened."""
    found = CaptionList(captioned_folder)
    assert len(found) == 12
    assert found[0]["caption"] == "a red circle"


def test_the_protocol_knows_the_captions_wherever_they_are(tmp_path):
    (tmp_path / "other").mkdir()
    here, there = (CaptionList(write("txt", folder)) for folder in (tmp_path, tmp_path / "other"))
    assert here.protocol == there.protocol
    assert here.protocol != CaptionList(write("txt", tmp_path), limit=2).protocol
    assert here.protocol["captions"].startswith("captions of captions.txt (")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (dict(source="/nowhere.txt"), ["/nowhere.txt", "FileNotFoundError"]),
        (dict(source="/nowhere.csv"), ["/nowhere.csv", "no such file"]),
        (dict(caption_column="title"), ["'title'", "file_name, text"]),
        (dict(limit=0), ["limit=0"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options, parts, tmp_path):
    with pytest.raises(InputError) as error:
        CaptionList(**dict(source=str(write("csv", tmp_path))) | options)
    assert not [part for part in parts if part not in str(error.value)]


def test_nothing_but_captions_is_accepted(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match="is empty"):
        CaptionList(tmp_path / "empty.txt")
    (tmp_path / "numbers.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(InputError, match="row 0 has 3 as its 'text'"):
        CaptionList(tmp_path / "numbers.jsonl")
    (tmp_path / "two.jsonl").write_text('{"text": "a", "prompt": "b"}\n')
    with pytest.raises(InputError, match="set caption_column to one of text, prompt"):
        CaptionList(tmp_path / "two.jsonl")
