"""Streams: every sample once a pass over all parts, and going on in the middle as if nothing had been in between."""

import itertools
import json

import datasets
import pytest
import shards

from diffdistill.datasets import CaptionedImages, CaptionStream, pictures
from diffdistill.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty-three samples in five tar files of different length."""
    return shards.write_shards(tmp_path_factory.mktemp("streams") / "wds", [7, 2, 5, 8, 1])


@pytest.fixture(scope="module")
def parquet(folder, tmp_path_factory):
    """The same as two parquet files and as a JSONL file of paths."""
    target = tmp_path_factory.mktemp("tables")
    names = [f"{number}.jpg" for number in range(23)]
    for number, name in enumerate(names):
        (target / name).write_bytes(shards.jpeg(number))
    rows = dict(image=[str(target / name) for name in names], text=[f"picture {number}" for number in range(23)])
    rows["aesthetic"] = [number / 10 for number in range(23)]
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    (target / "parquet").mkdir()
    for number, part in enumerate([range(9), range(9, 23)]):
        table.select(part).to_parquet(target / "parquet" / f"{number}.parquet")
    lines = [{"image": name, "text": f"picture {number}"} for number, name in enumerate(names)]
    (target / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return target


def captions(part, count: int) -> list[str]:
    return [next(part)["caption"] for _ in range(count)]


def one_pass(stream, parts: int, epoch: int = 0) -> list[list[str]]:
    """What each part gives in a pass."""
    found = []
    for number in range(parts):
        part, own = stream.part(3, number, parts, dict(epoch=epoch)), []
        while part.position["epoch"] == epoch:
            own.append(next(part)["caption"])
        found.append(own[:-1])  # the last one began the next pass
    return found


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("buffer", [1, 4, 100])
def test_parts_share_a_pass_without_repeats_or_gaps(folder, parts, buffer):
    stream = CaptionStream(str(folder), shuffle_buffer=buffer)
    for epoch in (0, 1):
        found = [caption for own in one_pass(stream, parts, epoch) for caption in own]
        assert sorted(found) == sorted(f"picture {number}" for number in range(23))


def test_passes_and_seeds_have_orders_of_their_own_and_a_buffer_shuffles(folder):
    stream, in_order = (CaptionStream(str(folder), shuffle_buffer=buffer) for buffer in (6, 1))
    assert one_pass(stream, 1) == one_pass(stream, 1)
    assert one_pass(stream, 1) != one_pass(stream, 1, epoch=1)
    other_seed = captions(stream.part(4, 0, 1, {}), 23)
    assert other_seed != one_pass(stream, 1)[0]
    assert sorted(other_seed) == sorted(one_pass(stream, 1)[0])
    # Without a buffer the samples of a shard stay together and in order, with one they are mixed.
    (straight,) = one_pass(in_order, 1)
    numbers = [int(caption.split()[1]) for caption in straight]
    assert sum(after != before + 1 for before, after in itertools.pairwise(numbers)) <= 4
    (mixed,) = one_pass(stream, 1)
    assert mixed != straight


@pytest.mark.parametrize("buffer", [1, 4, 100])
@pytest.mark.parametrize(("part", "of"), [(0, 1), (1, 2), (6, 8)])
def test_a_part_goes_on_from_any_place_and_decodes_nothing_of_before(folder, monkeypatch, buffer, part, of):
    stream = CaptionStream(str(folder), shuffle_buffer=buffer)
    straight, positions, found = stream.part(3, part, of, {}), [], []
    for _ in range(40):
        positions.append(straight.position)
        found.append(next(straight)["sample"])
    decoded = []
    read = pictures.read_picture
    monkeypatch.setattr("diffdistill.datasets.reading.read_picture", lambda *args: decoded.append(1) or read(*args))
    for done in range(0, 38, 3):
        position = json.loads(json.dumps(positions[done]))  # plain enough for any checkpoint
        again = stream.part(3, part, of, position)
        assert again.position == positions[done]
        assert not decoded
        assert [next(again)["sample"] for _ in range(2)] == found[done : done + 2]
        decoded.clear()


@pytest.mark.parametrize("source", ["parquet", "parquet/0.parquet", "list.jsonl"])
def test_what_the_library_streams_gives_the_same_items(parquet, source):
    stream, table = CaptionStream(str(parquet / source), shuffle_buffer=5), CaptionedImages(str(parquet / source))
    expected = {table[index]["caption"]: table[index]["image"].tobytes() for index in range(len(table))}
    assert len(expected) == (9 if source.endswith("0.parquet") else 23)
    for parts in (1, 2, 3):
        split = [stream.part(3, number, parts, {}) for number in range(parts)]
        found = [item for own in one_pass(stream, parts) for item in own]
        assert sorted(found) == sorted(expected)
        item = next(split[-1])
        assert item["image"].tobytes() == expected[item["caption"]]
        assert item.keys() == table[0].keys()
        position = split[-1].position
        following = captions(split[-1], 30)
        assert captions(stream.part(3, parts - 1, parts, position), 30) == following


def test_filters_hold_for_rows_of_every_kind(folder, parquet):
    for source in (folder, parquet / "parquet"):
        stream = CaptionStream(str(source), filters=["aesthetic >= 1.2", "aesthetic < 2"], shuffle_buffer=3)
        (found,) = one_pass(stream, 1)
        assert sorted(found) == sorted(f"picture {number}" for number in range(12, 20)), source
        assert len(stream.narrowed) == 2


def test_a_least_size_is_told_by_the_heads_of_the_files(tmp_path):
    samples = {str(number): shards.sample(number) for number in range(4)}
    samples["2"]["jpg"] = shards.jpeg(2, width=64, height=40)
    shards.write_shard(tmp_path / "0.tar", samples)
    assert CaptionStream(str(tmp_path), min_size=40).first()["caption"] == "picture 2"


def test_filters_that_leave_nothing_are_one_line(folder):
    stream = CaptionStream(str(folder), filters=["aesthetic > 99"])
    with pytest.raises(InputError, match=r"part 1 of 1 of the stream has no rows: the filters leave none"):
        stream.first()


def test_more_parts_than_rows_are_one_line(folder):
    stream = CaptionStream(str(folder / "00004.tar"))
    with pytest.raises(InputError, match=r"part 2 of 2 of the stream has no rows: .*fewer rows than ranks times workers"):
        next(stream.part(0, 1, 2, {}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(filters=["beauty > 1"]), "there is no column 'beauty'; the columns are image, "),
        (dict(caption_column="title"), "there is no column 'title'; the columns are image, "),
        (dict(caption_column="aesthetic"), "column 'aesthetic' holds float64"),
        (dict(shuffle_buffer=0), "shuffle_buffer=0 must be a whole number, at least 1"),
        (dict(min_size=-1), "min_size=-1 must be a whole number, at least 1"),
        (dict(max_skipped=2), "max_skipped=2 is no share of the samples"),
    ],
)
def test_mistakes_are_one_line(folder, options, words):
    with pytest.raises(InputError) as caught:
        CaptionStream(str(folder), **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_save_to_disk_is_refused(tmp_path):
    datasets.Dataset.from_dict(dict(image=["a.png"], text=["a"])).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"a folder of save_to_disk is not streamed; use type='CaptionedImages'"):
        CaptionStream(str(tmp_path / "saved"))


def test_a_stream_of_bad_samples_ends_with_the_last_one_named(tmp_path):
    samples = {f"{number:04d}": shards.sample(number) | {"jpg": b"no picture"} for number in range(30)}
    shards.write_shard(tmp_path / "0.tar", samples)
    stream = CaptionStream(str(tmp_path), shuffle_buffer=1)
    with pytest.raises(InputError, match=r"row 10 \(0\.tar/0010\.jpg\): it is no picture .* 11 samples of the stream"):
        stream.first()


def test_the_length_of_a_stream_is_not_known(folder):
    with pytest.raises(TypeError):
        len(CaptionStream(str(folder)))
