"""A cache that is not of a config is refused in one line that says which part differs, before anything is loaded."""

import json
import os
import shutil
from types import SimpleNamespace

import caching
import pytest
import runs
import tiny
from safetensors.torch import load_file, save_file

from diffdistill.config.cache import check_room, difference
from diffdistill.errors import InputError
from diffdistill.families.identity import Identity


@pytest.fixture(scope="module")
def places(thin_sdxl, tmp_path_factory):
    """A config, its data and its teacher, all of which a test may change in a copy, and the cache of them."""
    folder = tmp_path_factory.mktemp("places")
    data = caching.write_data(folder / "pictures")
    teacher = shutil.copytree(thin_sdxl, folder / "teacher")
    config = caching.write_config(folder / "config.py", teacher, data)
    caching.make(config, folder / "cache")
    return SimpleNamespace(folder=folder, data=data, teacher=teacher, config=config, cache=folder / "cache")


def refused(places, *words, cache=None, **changes) -> None:
    """A training from the cache ends in one line with `words`, and leaves nothing."""
    work_dir = places.folder / "run"
    options = runs.options(data_cache=cache or places.cache, **changes)
    ended = runs.tool("train", places.config, "--work-dir", work_dir, *options)
    runs.assert_one_line(ended, *words)
    assert not work_dir.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            dict(train_dataloader__dataset__pipeline__0__size=64),
            ("of another train_dataloader.dataset.pipeline: it was made with size=32, and the config has size=64",),
        ),
        (
            dict(train_dataloader__dataset__split="train[:5]"),
            ("of another train_dataloader.dataset (its options)", "split="),
        ),
        (dict(model__dtype="bfloat16"), ("of another model.dtype: it was made with float32, and the config has bfloat16",)),
        (dict(model__teacher__quantize="int8"), ("of another quantize: it was made with None",)),
        (
            dict(train_dataloader__dataset__pipeline__0__crop="random"),
            ("train_dataloader.dataset.pipeline.0 (ResizeCrop) draws at random", "(crop='center')"),
        ),
        (
            dict(model__method__conditioning="{'type': 'RandomConditioning', 'captions': '{folder}/captions.txt'}"),
            ("model.method asks for 1 captions that the cache lacks, such as 'a cat'",),
        ),
    ],
)
def test_another_config(changes, words, places):
    (places.folder / "captions.txt").write_text("a cat\n\n")
    changes = {key: value.replace("{folder}", str(places.folder)) if isinstance(value, str) else value
               for key, value in changes.items()}  # fmt: skip
    refused(places, *words, **changes)


def test_another_fine_tune_of_the_same_size(places):
    """One number of one tensor is another; the files have the same names and sizes."""
    for part, name in (("vae", "VAE (its files)"), ("text_encoder_2", "text encoders (their files)")):
        file = next((places.teacher / part).glob("*.safetensors"))
        before = file.read_bytes()
        tensors = load_file(file)
        first = min(name for name in tensors if tensors[name].numel() > 8)
        tensors[first].view(-1)[3] += 0.25
        save_file(tensors, file, metadata={"format": "pt"})
        assert file.stat().st_size == len(before)
        refused(places, f"is of another {name}: it was made with ")
        file.write_bytes(before)


def test_the_same_files_elsewhere_are_the_same(places, tmp_path):
    """They are read again, for they have other names and times; and a denoiser has no part in it."""
    teacher = shutil.copytree(places.teacher, tmp_path / "teacher", copy_function=shutil.copy)
    ended = runs.tool(
        "train", places.config, "--check", *runs.options(data_cache=places.cache, model__teacher__checkpoint=teacher)
    )
    assert ended.code == 0, ended


def test_a_file_is_read_again_only_where_it_has_changed(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    identity = Identity([tmp_path / "a.json"])
    digest, stamps = identity.digest(), identity.stamps
    (tmp_path / "a.json").write_text("[]")
    os.utime(tmp_path / "a.json", ns=(0, next(iter(stamps.values()))[1]))
    assert identity.digest(stamps, digest) == digest  # whose size and time are as they were
    os.utime(tmp_path / "a.json", ns=(0, 1))
    assert identity.digest(stamps, digest) != digest


def test_other_data(places):
    before, time = places.data.read_text(), places.data.stat().st_mtime_ns
    places.data.write_text(before + "\n" + before.splitlines()[0])
    refused(places, "has 14 rows, fewer than the 15 of train_dataloader.dataset", "config.py OTHER")
    places.data.write_text(before.replace("a red circle", "a big circle"))
    refused(places, "of another train_dataloader.dataset (its pictures and captions)")
    places.data.write_text(before)
    os.utime(places.data, ns=2 * (time,))


def test_other_pictures_of_the_same_names(places, tmp_path):
    pictures = shutil.copytree(places.folder / "pictures", tmp_path / "pictures")
    config = caching.write_config(tmp_path / "config.py", places.teacher, pictures / "table.jsonl")
    caching.make(config, tmp_path / "cache")
    tiny.coordinates(32, 32).save(pictures / "00.png")
    ended = runs.tool("train", config, *runs.options(data_cache=tmp_path / "cache"))
    runs.assert_one_line(ended, "of another train_dataloader.dataset (its pictures and captions)")


def spoil_version(cache):
    layout = json.loads((cache / "layout.json").read_text())
    layout["key"]["version"] = 0
    (cache / "layout.json").write_text(json.dumps(layout))


def spoil_shard(cache):
    file = next((cache / "captions").iterdir())
    file.write_bytes(file.read_bytes()[:-1])


SPOILT = {
    "version": (spoil_version, "of another version of the format: it was made with 0, and the config has 1"),
    "unfinished": (lambda cache: (cache / "index.json").unlink(), "is an unfinished cache; `mim run diffdistill cache "),
    "shard": (spoil_shard, ".safetensors is cut short or changed; `mim run"),
    "no shard": (lambda cache: next((cache / "pictures").iterdir()).unlink(), ".safetensors is missing; `mim run"),
    "no cache": (lambda cache: (cache / "layout.json").unlink(), "no cache (it has no layout.json); `mim run"),
    "nothing": (shutil.rmtree, "no such folder; `mim run diffdistill cache "),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_that_is_no_cache_of_this_version(name, places, tmp_path):
    spoil, words = SPOILT[name]
    cache = shutil.copytree(places.cache, tmp_path / "cache")
    spoil(cache)
    refused(places, words, cache=cache)


def test_a_text_encoder_that_is_trained(places, tmp_path):
    more = (
        'model = dict(_delete_=True, type="FineTuner", base=model["teacher"] | dict(type="StableDiffusionXL"),'
        ' losses=dict(task=dict(type="TaskLoss")), finetune_text_encoder=True)\n'
    )
    config = caching.write_config(tmp_path / "config.py", places.teacher, places.data, more=more)
    for ended in (
        runs.tool("train", config, *runs.options(data_cache=places.cache)),
        runs.tool("cache", config, tmp_path / "cache"),
    ):
        runs.assert_one_line(
            ended, "this training changes text_encoder, text_encoder_2, so the embeddings of captions do not"
        )
    assert not (tmp_path / "cache").exists()


def test_a_data_set_that_cannot_be_cached(tmp_path):
    ended = runs.tool("cache", "ssd_1b_dreambooth_lora_dog.py", tmp_path / "cache", *runs.options(
        train_dataloader__dataset__source="diffdistill::star_pictures", model__base__checkpoint="diffdistill::sdxl_shapes",
        model__base__vae=None,
    ))  # fmt: skip
    runs.assert_one_line(ended, "train_dataloader.dataset.type=DreamBoothDataset cannot be cached")


def test_no_room(tmp_path):
    with pytest.raises(InputError, match="the cache takes about 1000000000000"):
        check_room(tmp_path, 10**21)


def test_what_differs_is_named():
    assert difference([1, dict(type="A", size=2)], [1, dict(type="A", size=3)]) == ("size=2", "size=3")
    assert difference([1], [1, 2]) == ("nothing there", "2")


def test_summary_says_how_large_a_cache_is(places):
    """Of 14 rows with two copies; the count is that of the files, but for headers, and captions that come twice."""
    figures = json.loads(runs.tool("summary", places.config, "--json").out)
    cached = json.loads(runs.tool("summary", places.config, "--json", *runs.options(data_cache=places.cache)).out)
    size = figures["cache"]
    assert size["rows"] == 14
    assert size["picture"] == 2 * 2 * 4 * 16 * 16 * 4
    (pictures,), (captions,) = ((places.cache / kind).iterdir() for kind in ("pictures", "captions"))
    assert 12 * size["picture"] < pictures.stat().st_size < 12 * size["picture"] + 4096
    assert 5 * size["caption"] < captions.stat().st_size < 5 * size["caption"] + 4096  # four colours, and ""
    assert size["total"] == 14 * size["picture"] + 15 * size["caption"]
    assert cached["memory"]["frozen"] == 0 < figures["memory"]["frozen"]
    assert cached["memory"]["activations"] <= figures["memory"]["activations"]
    assert "MB a caption; " in runs.tool("summary", places.config).out
