"""Tar files as img2dataset writes them: found, indexed, read by places, and what is wrong in them named."""

import json
import shutil
import tarfile

import fsspec
import pytest
import shards
from PIL import Image

from diffdistill.datasets import CaptionedImages, CaptionStream
from diffdistill.datasets.pictures import read_picture
from diffdistill.datasets.shards import expand, find_shards
from diffdistill.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven samples in three tar files."""
    return shards.write_shards(tmp_path_factory.mktemp("shards") / "wds", [3, 2, 2])


def items(dataset: CaptionedImages) -> list[dict]:
    return [dataset[index] for index in range(len(dataset))]


def captions(stream: CaptionStream, count: int, part: int = 0, of: int = 1) -> list[str]:
    found = stream.part(0, part, of, {})
    return [next(found)["caption"] for _ in range(count)]


def test_a_pattern_stands_for_names():
    assert expand("a/{08..11}.tar") == ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]
    assert expand("{0..1}/{00..01}.tar") == ["0/00.tar", "0/01.tar", "1/00.tar", "1/01.tar"]
    assert expand("one.tar") == ["one.tar"]


@pytest.mark.parametrize("ending", ["", "/", "/*.tar", "/{00000..00002}.tar", "/0000?.tar"])
def test_every_way_to_name_shards_gives_the_same_items(folder, ending):
    dataset = CaptionedImages(f"{folder}{ending}")
    found = items(dataset)
    assert [item["caption"] for item in found] == [f"picture {number}" for number in range(7)]
    assert found[4]["sample"] == "row 4 (00001.tar/000000004.jpg)"
    assert found[4]["image"].tobytes() == read_picture(shards.jpeg(4)).tobytes()
    assert found[4]["skipped"] == ""
    assert dataset.left_out == ""


def test_one_shard_is_a_source_too(folder):
    assert len(CaptionedImages(str(folder / "00001.tar"))) == 2


def test_items_are_those_of_any_other_source(folder, tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.jpg").write_bytes(shards.jpeg(number))
    rows = [{"image": f"{number}.jpg", "text": f"picture {number}"} for number in range(7)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pipeline = [dict(type="ResizeCrop", size=8), dict(type="PackInputs")]
    ours, theirs = (items(CaptionedImages(str(each), pipeline=pipeline)) for each in (folder, tmp_path / "list.jsonl"))
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in ("pixel_values", "time_ids"))
        assert (one["caption"], one["skipped"]) == (other["caption"], other["skipped"])


def test_captions_come_from_a_key_of_the_json_where_it_is_named(folder):
    assert CaptionedImages(str(folder), caption_column="caption")[2]["caption"] == "said of 2"
    assert captions(CaptionStream(str(folder), caption_column="caption", shuffle_buffer=1), 7)[0].startswith("said of ")


def test_without_texts_the_captions_of_the_json_are_taken(tmp_path):
    members = {kind: content for kind, content in shards.sample(5).items() if kind != "txt"}
    shards.write_shard(tmp_path / "0.tar", {"5": members})
    assert CaptionedImages(str(tmp_path))[0]["caption"] == "said of 5"
    assert CaptionStream(str(tmp_path)).first()["caption"] == "said of 5"


def test_pictures_of_several_kinds_and_folders_in_a_shard(tmp_path):
    out = tmp_path / "a.png"
    Image.new("RGB", (4, 4), "red").save(out)
    samples = {"a/1": {"png": out.read_bytes(), "txt": b"red"}, "b/1": shards.sample(1)}
    shards.write_shard(tmp_path / "0.tar", samples)
    assert [item["caption"] for item in items(CaptionedImages(str(tmp_path)))] == ["red", "picture 1"]


def test_an_index_is_made_once_and_again_where_a_shard_has_changed(folder, tmp_path, monkeypatch):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert len(CaptionedImages(str(copy))) == 7
    monkeypatch.setattr("diffdistill.datasets.shard_index.fitted", None)  # whoever indexes calls it
    assert len(CaptionedImages(str(copy))) == 7
    monkeypatch.undo()
    shards.write_shard(copy / "00002.tar", {"x": shards.sample(9)})
    assert items(CaptionedImages(str(copy)))[-1]["caption"] == "picture 9"


def test_addresses_of_fsspec(folder):
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    expected = [f"picture {number}" for number in range(7)]
    for source in (f"file://{folder}", "memory://bucket", "memory://bucket/{00000..00002}.tar"):
        assert [item["caption"] for item in items(CaptionedImages(source))] == expected, source
        assert sorted(captions(CaptionStream(source), 7)) == expected, source


def test_a_server_that_gives_parts_of_files(folder):
    pytest.importorskip("aiohttp")
    with shards.serve(folder) as address:
        source = f"{address}/{{00000..00002}}.tar"
        expected = [f"picture {number}" for number in range(7)]
        assert [item["caption"] for item in items(CaptionedImages(source))] == expected
        assert sorted(captions(CaptionStream(source), 7)) == expected


def test_a_server_that_gives_whole_files_alone_can_be_streamed(folder):
    pytest.importorskip("aiohttp")
    with shards.serve(folder, shards.AsAWhole) as address:
        source = f"{address}/{{00000..00002}}.tar"
        assert sorted(captions(CaptionStream(source), 7)) == [f"picture {number}" for number in range(7)]
        with pytest.raises(InputError, match=r"a server that gives no parts of files can be streamed"):
            CaptionedImages(source)


def cut(path, keep: float):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.fixture
def spoiled(folder, tmp_path):
    """The second of the shards cut in the middle; in the third a file that belongs to nothing, and half a picture."""
    copy = shutil.copytree(folder, tmp_path / "spoiled")
    cut(copy / "00001.tar", 0.5)
    samples = {"README": {"md": b"about"}, "5": shards.sample(5), "6": shards.sample(6) | {"jpg": shards.jpeg(6)[:-60]}}
    shards.write_shard(copy / "00002.tar", samples)
    return copy


def test_what_an_index_shows_to_be_bad_is_left_out_at_once(spoiled):
    dataset = CaptionedImages(str(spoiled), max_skipped=0.5)
    left_out = [json.loads(line) for line in dataset.left_out.splitlines()]
    assert [(each["source"].rpartition("/")[2], each["file"]) for each in left_out] == [
        ("00001.tar", "00001.tar"),
        ("00002.tar", "README"),
    ]
    assert left_out[0]["reason"].startswith("the shard 00001.tar is cut short behind ")
    assert left_out[1]["reason"] == "there is no picture of the name README"
    found = items(dataset)
    assert [item["caption"] for item in found][:3] == ["picture 0", "picture 1", "picture 2"]
    bad = json.loads(found[-1]["skipped"])
    assert (bad["file"], "truncated" in bad["reason"]) == ("00002.tar/6.jpg", True)


def test_a_stream_leaves_out_the_same(spoiled):
    stream = CaptionStream(str(spoiled), max_skipped=1, shuffle_buffer=1)
    part, bad, good = stream.part(0, 0, 1, {}), {}, set()
    for _ in range(12):
        item = next(part)
        good.add(item["caption"])
        for line in item["skipped"].splitlines():
            record = json.loads(line)
            bad[record["source"].rpartition("/")[2], record["file"]] = record["reason"]
    whole = len(CaptionedImages(str(spoiled), max_skipped=0.5))
    assert len(good) == whole - 1
    assert {file for _, file in bad} == {None, "00002.tar/6.jpg"}
    reasons = " ".join(bad.values())
    assert all(
        text in reasons for text in ("the shard 00001.tar is cut short", "no picture of the name README", "truncated")
    )


@pytest.mark.parametrize("behind", [0, 100, 512 + 20])
def test_a_shard_that_is_cut_short_is_named_wherever_it_breaks_off(folder, tmp_path, behind):
    """Before, in and behind the last member."""
    with tarfile.open(folder / "00000.tar") as archive:
        last = archive.getmembers()[-1]
    content = (folder / "00000.tar").read_bytes()
    (tmp_path / "00007.tar").write_bytes(content[: last.offset + behind])
    with pytest.raises(InputError, match=r"the shard 00007\.tar is cut short behind \d members .*max_skipped=0 "):
        CaptionedImages(str(tmp_path), max_skipped=0)


def test_too_many_bad_samples_are_an_error_before_anything_is_loaded(spoiled):
    with pytest.raises(InputError, match=r"2 of \d samples cannot be used, and max_skipped=0.01 "):
        CaptionedImages(str(spoiled))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{}/none*.tar", "there are no .tar files"),
        ("{}/00099.tar", "00099.tar: there is no such shard"),
        ("memory://nowhere", "there are no .tar files"),
        ("http://127.0.0.1:9/0.tar", "the shard cannot be"),
        ("nothing://x/0.tar", "cannot be"),
    ],
)
@pytest.mark.parametrize("kind", [CaptionedImages, CaptionStream])
def test_shards_that_are_not_there_are_one_line(folder, source, words, kind):
    with pytest.raises(InputError) as caught:
        kind(source.format(folder))
    assert words in str(caught.value) or "cannot be opened" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_that_cannot_be_made_is_one_line(folder, tmp_path):
    """The library has an error of its own around what happens in there."""
    for name in ("00000.tar", "00001.tar"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "00002.tar").mkdir()
    with pytest.raises(InputError, match=r"00002\.tar: the shard cannot be opened: "):
        CaptionedImages(str(tmp_path))


def test_a_file_that_is_no_tar_file_is_one_line(tmp_path):
    (tmp_path / "0.tar").write_text("this is no tar file" * 100)
    with pytest.raises(InputError, match=r"the shard 0\.tar is cut short behind 0 members"):
        CaptionedImages(str(tmp_path))


def test_shards_in_order(folder):
    assert [name.rpartition("/")[2] for name in find_shards(str(folder))] == ["00000.tar", "00001.tar", "00002.tar"]


def test_values_of_the_json_that_change_their_kind(tmp_path):
    samples = {str(number): shards.sample(number, score=score) for number, score in enumerate([None, 1, 2.5, "x"])}
    samples["0"]["json"] = json.dumps(dict(score=None, tags=["a"])).encode()
    samples["3"]["json"] = b"{broken"
    shards.write_shard(tmp_path / "0.tar", samples)
    dataset = CaptionedImages(str(tmp_path), filters=["score > 1"])
    assert [item["caption"] for item in items(dataset)] == ["picture 2"]


def test_sizes_are_told_without_decoding(tmp_path):
    """By the .json where it has the pictures' shapes, else by the heads of the pictures in their shards."""
    said = [dict(width=160, height=120), dict(width=None, height=None)]
    for number, about in enumerate(said):
        members = {f"{number:09d}": shards.sample(number, **about)}
        shards.write_shard(tmp_path / f"{number:05d}.tar", members)
    assert CaptionedImages(str(tmp_path)).picture_sizes().tolist() == [[120, 160], [12, 16]]
