"""Making a cache: by several processes, after kills, on a full disk, of every kind of family and row."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import caching
import pytest
import runs
import torch
from disks import small_disk
from kinds import KINDS

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.datasets.cache import BAD, Cache, Texts
from diffdistill.models.cached import CachedEncoding
from diffdistill.registry import DATASETS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return caching.write_data(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def config(thin_sdxl, data, tmp_path_factory):
    return caching.write_config(tmp_path_factory.mktemp("config") / "cached.py", thin_sdxl, data)


@pytest.fixture(scope="module")
def made(config, tmp_path_factory):
    """What the tool says of the cache of `config` in shards of two, and the cache."""
    out = tmp_path_factory.mktemp("caches") / "cache"
    return caching.make(config, out, "--shard-size", 2), Cache(out)


def test_what_is_in_a_cache(made, config):
    """The moments of the VAE for what the transforms make of each row, and of its mirror image; captions once each."""
    ended, cache = made
    assert "14 pictures, each mirrored as well, 5 captions" in ended.out
    assert "2 rows cannot be used" in ended.out
    assert f"Train from it: mim train diffdistill {config} --cfg-options data_cache={cache.folder}" in ended.out
    assert cache.skipped.keys() == {3, 7}
    assert cache.item_sizes().tolist() == [[32, 32]] * 14
    plan = check_model(load_config(config).model)
    pipeline = plan.family.load(torch.float32)
    section = load_config(config).train_dataloader.dataset
    for mirrored in (False, True):
        flip = [dict(each, p=float(mirrored)) if each["type"] == "RandomFlip" else each for each in section.pipeline]
        rows = DATASETS.build(dict(section, pipeline=[each for each in flip if each["type"] != "CaptionDropout"]))
        for row in (0, 5, 13):
            item, found = rows[row], cache.picture(row, mirrored)
            expected = plan.family.posterior(pipeline, item["pixel_values"][None])
            for name in ("mean", "std"):
                torch.testing.assert_close(found[name], expected[name][0], rtol=1e-4, atol=1e-5)
            assert found["time_ids"].tolist() == item["time_ids"].tolist()
    texts = [cache.texts[number] for number in range(5)]
    assert sorted(texts) == ["", *sorted(f"a {colour} circle" for colour in caching.COLOURS)]
    assert cache.texts.numbers(["a dog", *texts]).tolist() == [BAD, *range(5)]
    with torch.no_grad():
        times = torch.zeros(5, 6)
        condition = plan.family.encode_captions(pipeline, dict(caption=texts, time_ids=times))
    found = CachedEncoding(plan.family, cache).conditioning(range(5), dict(time_ids=times), torch.device("cpu"))
    torch.testing.assert_close(found, condition)


def test_texts_keep_what_is_no_text():
    arrays, several = Texts.pack([["b", None], [], None, "ä\ud800"], ["c"])
    assert several
    texts = Texts.__new__(Texts)
    texts.parts = {name: tensor.numpy() for name, tensor in arrays.items()}
    assert [[texts[n] if n != BAD else None for n in texts.of_row(row)] for row in range(4)] == [
        ["b", None],
        [],
        [],
        ["ä\ud800"],
    ]
    assert len(texts) == 4  # with ""
    assert (texts.numbers(["", "c"]) != BAD).all()


@pytest.mark.parametrize("name", KINDS)
def test_every_family_says_the_same_from_a_cache(name, tmp_path, data):
    """Latents and conditioning of a batch, for the same random numbers."""
    family, write, changes, _ = KINDS[name]
    write(tmp_path / "teacher", **changes)
    more = (
        f'model = dict(_delete_=True, type="FineTuner", losses=dict(task=dict(type="TaskLoss")),\n'
        f'    base=dict(type="{family.__name__}", checkpoint="{tmp_path}/teacher", max_sequence_length=24))\n'
    )
    config = caching.write_config(tmp_path / "config.py", tmp_path / "teacher", data, more=more)
    caching.make(config, tmp_path / "cache")
    cache, plan = Cache(tmp_path / "cache"), check_model(load_config(config).model)
    cached, pipeline = CachedEncoding(plan.family, cache), plan.family.load(torch.float32)
    section = load_config(config).train_dataloader.dataset
    rows = DATASETS.build(dict(section, pipeline=[section.pipeline[0], section.pipeline[3]]))
    captions = ["a red circle", ""]
    pixels = torch.stack([rows[row]["pixel_values"] for row in (0, 4)])
    torch.manual_seed(0)
    latents = plan.family.encode_pictures(pipeline, pixels)
    with torch.no_grad():
        condition = plan.family.encode_captions(pipeline, dict(caption=captions))
    pictures = [cache.picture(row, mirrored=False) for row in (0, 4)]
    batch = {f"latent_{name}": torch.stack([each[name] for each in pictures]) for name in cache.index["moments"]}
    torch.manual_seed(0)
    found, theirs = cached.encode(batch | dict(caption=captions))
    torch.testing.assert_close(found, latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs, condition, rtol=1e-4, atol=1e-5)


def test_what_is_kept_may_be_shorter(config, tmp_path, made):
    caching.make(config, tmp_path / "cache", "--dtype", "bfloat16", "--batch-size", "3")
    cache, whole = Cache(tmp_path / "cache"), made[1]
    ours, theirs = cache.picture(0, mirrored=False)["mean"], whole.picture(0, mirrored=False)["mean"]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
    (shard,) = (tmp_path / "cache" / "pictures").iterdir()
    assert shard.stat().st_size < 0.6 * sum(file.stat().st_size for file in (whole.folder / "pictures").iterdir())
    ended = runs.tool("cache", config, tmp_path / "cache", "--dtype", "float16")
    runs.assert_one_line(ended, "was begun with stored=bfloat16, not float16")


def test_a_finished_cache_is_left_as_it_is(made, config):
    before = {path: path.stat().st_mtime_ns for path in made[1].folder.rglob("*.safetensors") if path.name[0] == "0"}
    ended = caching.make(config, made[1].folder)
    assert ended.out == made[0].out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_shard_that_was_cut_short_is_made_again(made, config, tmp_path):
    out = shutil.copytree(made[1].folder, tmp_path / "cache")
    shard = next((out / "pictures").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1])
    caching.make(config, out)
    assert caching.content(out) == caching.content(made[1].folder)


def test_captions_of_the_method_are_asked_of_a_cache_that_is_there(made, config, tmp_path):
    (tmp_path / "captions.txt").write_text("a cat\n")
    conditioning = "{'type': 'RandomConditioning', 'captions': '" + str(tmp_path / "captions.txt") + "'}"
    ended = runs.tool("cache", config, made[1].folder, *runs.options(model__method__conditioning=conditioning))
    runs.assert_one_line(ended, "model.method asks for 1 captions that the cache lacks, such as 'a cat'")


def test_the_cache_of_another_config_is_not_written_over(made, config):
    ended = runs.tool("cache", config, made[1].folder, *runs.options(train_dataloader__dataset__pipeline__0__size=64))
    runs.assert_one_line(ended, f"OUT={made[1].folder} is of another train_dataloader.dataset.pipeline")


def test_a_folder_of_something_else_is_not_written_to(config, tmp_path):
    (tmp_path / "mine").write_text("")
    runs.assert_one_line(runs.tool("cache", config, tmp_path), f"OUT={tmp_path} is no cache and not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--shard-size", 0), "--shard-size=0: give 1 or more"),
        (("--batch-size", 0), "--batch-size=0: give 1 or more"),
        (("--dtype", "int8"), "--dtype=int8: expected one of float32"),
        (("--gpus", 2), "--gpus=2: give 1 or more, with --launcher pytorch"),
        (("--launcher", "slurm"), "--launcher=slurm: no ranks have been started"),
    ],
)
def test_options_that_cannot_be(option, words, config, tmp_path):
    runs.assert_one_line(runs.tool("cache", config, tmp_path / "cache", *option), words)


@pytest.mark.processes
def test_two_processes_make_what_one_makes(made, config, tmp_path):
    out = tmp_path / "cache"
    ended = runs.finish(
        runs.start("cache", config, out, "--shard-size", 2, "--launcher", "pytorch", "--gpus", 2, OMP_NUM_THREADS="1")
    )
    assert ended.code == 0, ended
    assert caching.content(out) == caching.content(made[1].folder)
    assert json.loads((out / "index.json").read_text()) == made[1].index


@pytest.mark.processes
def test_one_folder_is_of_one_command(made, config, tmp_path):
    out = tmp_path / "cache"
    program = "import fcntl, sys; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    (out / "pictures").mkdir(parents=True)
    words = [sys.executable, "-c", program]
    holder = subprocess.Popen([*words, out / ".lock_0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    (out / "pictures").rmdir()
    ended = runs.tool("cache", config, out)
    holder.kill()
    holder.communicate()
    runs.assert_one_line(ended, f"OUT={out}: another process writes there; wait for it")


def test_a_full_disk_keeps_what_is_finished(made, config, tmp_path):
    """The same command goes on once there is room, and reads what is there."""
    with small_disk(tmp_path / "disk", "16m") as disk:
        out = disk / "cache"
        free = os.statvfs(disk)
        needed = sum(path.stat().st_size for path in made[1].folder.rglob("*.safetensors"))
        (disk / "mine").write_bytes(bytes(free.f_bavail * free.f_frsize - needed // 2))
        ended = runs.tool("cache", config, out, "--shard-size", 2)
        runs.assert_one_line(ended, f"OUT={out}: the cache takes about", "GB are free there")
        (disk / "mine").unlink()
        caching.make(config, out, "--shard-size", 2)
        for file in (*sorted((out / "pictures").iterdir())[2:], *sorted((out / "captions").iterdir()), out / "index.json"):
            file.unlink()
        kept = [path.name for path in (out / "pictures").iterdir()]
        free = os.statvfs(disk)
        (disk / "mine").write_bytes(bytes(free.f_bavail * free.f_frsize - 3 * 4096))
        ended = runs.tool("cache", config, out)
        *bars, line = ended.err.splitlines()
        assert ended.code == 2
        assert not [each for each in bars if "pictures" not in each]
        assert line.startswith(f"error: {out}/pictures/000002.safetensors: No space left on device; free space there")
        assert line.endswith("what is finished stays, and the same command goes on with it")
        assert sorted(path.name for path in (out / "pictures").iterdir()) == sorted(kept)
        (disk / "mine").unlink()
        caching.make(config, out)
        assert caching.content(out) == caching.content(made[1].folder)


@pytest.mark.processes
def test_a_killed_command_goes_on_where_it_was(made, config, tmp_path):
    out, chance = tmp_path / "cache", random.Random(0)
    for _ in range(2):
        process = runs.start("cache", config, out, "--shard-size", 2)
        wanted = chance.randrange(1, 6) + len(list(out.rglob("0*.safetensors")))
        while process.poll() is None and len(list(out.rglob("0*.safetensors"))) < wanted:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        runs.finish(process)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("0*.safetensors")}
    assert before
    caching.make(config, out, "--shard-size", 2)
    assert caching.content(out) == caching.content(made[1].folder)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
