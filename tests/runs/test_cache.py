"""Trainings from a cache of encoded data: the same losses, none of the encoders."""

import json

import caching
import numpy as np
import pytest
import runs
import torch
from PIL import Image

from diffdistill.config.check import check
from diffdistill.config.read import load_config
from diffdistill.datasets.cached import cached_loader
from diffdistill.engine.runner import PlannedRunner
from diffdistill.models.base import build_model
from diffdistill.registry import DATASETS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return caching.write_data(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def config(thin_sdxl, data, tmp_path_factory):
    return caching.write_config(tmp_path_factory.mktemp("config") / "cached.py", thin_sdxl, data)


@pytest.fixture(scope="module")
def cache(config, tmp_path_factory):
    """The cache of `config`, in shards of four."""
    out = tmp_path_factory.mktemp("caches") / "cache"
    caching.make(config, out, "--shard-size", 4)
    return out


@pytest.mark.parametrize(
    ("model", "pipeline"), [("sdxl_shapes", "thin_sdxl"), ("sd_shapes", "tiny_sd"), ("sd3_shapes", "tiny_sd3")]
)
def test_losses_are_those_without_a_cache(model, pipeline, data, tmp_path, request):
    """Of 20 steps, with mirrored pictures, several captions, some of them dropped, and bad rows."""
    config = caching.write_config(tmp_path / "config.py", request.getfixturevalue(pipeline), data, model)
    caching.make(config, tmp_path / "cache")
    runs.trained(config, tmp_path / "plain", {})
    runs.trained(config, tmp_path / "cached", dict(data_cache=tmp_path / "cache"))
    assert caching.largest_difference(tmp_path / "plain", tmp_path / "cached") <= 1e-5
    skipped = [(tmp_path / name / "skipped.jsonl").read_text() for name in ("plain", "cached")]
    assert skipped[0].count("\n") == 2
    assert skipped[0] == skipped[1]


def test_aspect_buckets_train_from_a_cache(thin_sdxl, tmp_path):
    """The batch sampler finds the sizes in the cache; losses are those without it."""
    data, sizes = tmp_path / "mixed", [(32, 32), (48, 32), (30, 60)] * 3  # (width, height)
    data.mkdir()
    for number, size in enumerate(sizes):
        Image.fromarray(np.full((*size[::-1], 3), 20 * number, np.uint8)).save(data / f"{number}.png")
    rows = [dict(file_name=f"{number}.png", text=f"picture {number}") for number in range(len(sizes))]
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    buckets = (
        "train_dataloader['batch_sampler'] = dict(type='AspectBatchSampler')\n"
        "train_dataloader['dataset']['pipeline'][0] = dict(type='BucketCrop', size=32, step=8)\ntrain_cfg['max_iters'] = 6\n"
    )
    config = caching.write_config(tmp_path / "config.py", thin_sdxl, data, more=buckets)
    caching.make(config, tmp_path / "cache")
    runs.trained(config, tmp_path / "plain", {})
    runs.trained(config, tmp_path / "cached", dict(data_cache=tmp_path / "cache"))
    assert caching.largest_difference(tmp_path / "plain", tmp_path / "cached") <= 1e-5
    plain, cached = (
        json.loads((tmp_path / name / "results.json").read_text())["aspect_buckets"] for name in ("plain", "cached")
    )
    assert plain["lost"] > 0
    assert cached == plain | dict(lost=None, lost_to_squares=None)
    assert len(plain["buckets"]) == 3


METHODS = {
    "random conditioning": 'model["method"] = dict(\n'
    'conditioning=dict(type="RandomConditioning", rate=0.0, captions="{captions}"))',
    "captions of the batch": 'model["method"] = dict(conditioning=dict(type="RandomConditioning", rate=0.0))',
    "guidance": 'model["method"] = dict(_delete_=True, type="GuidanceDistillation", guidance_scale=3.0)\n'
    'model["losses"]["output"] = None',
    "consistency": 'model["method"] = dict('
    '_delete_=True, type="LatentConsistency", guidance_scale=[2, 4], target="student")\n'
    'model["losses"]["output"] = None\nmodel["student"] = dict(guidance_embedding=8)',
    "stages": 'model["method"] = dict(_delete_=True, type="ProgressiveDistillation", steps=4, guidance_scale=3.0)\n'
    'model["losses"]["output"] = None\n'
    'stages = [dict(name="four"), dict(name="two", model=dict('
    'teacher=dict(denoiser="previous"), method=dict(steps=2, guidance_scale=None)))]',
    "fine-tuning": 'model = dict(_delete_=True, type="FineTuner", base=model["teacher"] | dict(type="StableDiffusionXL"),'
    ' losses=dict(task=dict(type="TaskLoss")), adapter=dict(type="LoraConfig", r=2, target_modules=["to_q"]))',
    "samples, offloaded": 'model["teacher"]["offload"] = True\n'
    'default_hooks["samples"] = dict(prompts=["a red circle"], interval=1)',
    "accumulation": 'optim_wrapper = dict(accumulative_counts=2)\nmodel["dtype"] = "bfloat16"',
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_from_a_cache(name, thin_sdxl, data, tmp_path):
    """Guidance and random conditioning ask for captions that no row of the batch has."""
    (tmp_path / "captions.txt").write_text("a small dog\na large triangle\n")
    more = METHODS[name].format(captions=tmp_path / "captions.txt") + "\ntrain_cfg['max_iters'] = 3\n"
    config = caching.write_config(tmp_path / "config.py", thin_sdxl, data, more=more)
    caching.make(config, tmp_path / "cache")
    runs.trained(config, tmp_path / "plain", {})
    runs.trained(config, tmp_path / "cached", dict(data_cache=tmp_path / "cache"))
    for plain in sorted((tmp_path / "plain").rglob("scalars.json")):
        run = plain.parents[2].relative_to(tmp_path / "plain")
        assert caching.largest_difference(tmp_path / "plain" / run, tmp_path / "cached" / run) <= 1e-5


def test_no_encoder_is_loaded_until_a_picture_is_drawn(config, cache, tmp_path):
    loaded = load_config(config, dict(data_cache=str(cache)), str(tmp_path / "run"))
    plan = check(loaded)
    model = build_model(loaded.model, plan)
    parts = ("vae", "text_encoder", "text_encoder_2")
    assert [getattr(model.frozen.pipeline, name) for name in parts] == [None] * 3
    drawn = model.sample(["a red circle"], [0])
    assert None not in [getattr(model.frozen.pipeline, name) for name in parts]
    whole = build_model(load_config(config).model, check(load_config(config, work_dir=str(tmp_path / "run"))))
    assert (drawn == whole.sample(["a red circle"], [0])).all()
    batch = next(iter(PlannedRunner.build_dataloader(cached_loader(loaded), seed=0)))
    condition = model.encode(batch)[1]
    captions = ["a cat", "a red circle"]  # the first is not in the cache
    torch.testing.assert_close(model.replace_captions(condition, captions), whole.replace_captions(condition, captions))
    assert model.frozen.pipeline.text_encoder is not None
    model(**batch)
    assert [getattr(model.frozen.pipeline, name) for name in parts] == [None] * 3


def test_a_resumed_run_is_the_unbroken_one(config, cache, tmp_path):
    options = dict(data_cache=cache, train_cfg__max_iters=4, default_hooks__checkpoint__interval=2)
    runs.trained(config, tmp_path / "straight", options)
    runs.trained(config, tmp_path / "resumed", options, "--resume", tmp_path / "straight" / "iter_2.pth")
    ours, theirs = (runs.checkpoint(tmp_path / name, 4)["state_dict"] for name in ("straight", "resumed"))
    assert not runs.differences(ours, theirs)


@pytest.mark.processes
def test_two_ranks_have_the_losses_of_two_without_a_cache(config, cache, tmp_path):
    for name, options in dict(plain={}, cached=dict(data_cache=cache)).items():
        words = [config, "--launcher", "pytorch", "--work-dir", tmp_path / name]
        runs.two_ranks(runs.program("train", [*words, *runs.options(train_cfg__max_iters=3, **options)]))
    assert caching.largest_difference(tmp_path / "plain", tmp_path / "cached") <= 1e-5


def test_items_are_those_of_the_data_set(config, cache):
    """In workers as well, with the sizes that a sampler of buckets asks for."""
    loaded = load_config(config)
    plain = DATASETS.build(loaded.train_dataloader.dataset)
    loaded.data_cache = str(cache)
    cached = DATASETS.build(cached_loader(loaded).dataset)
    assert len(cached) == len(plain) == len(cached.item_sizes())
    assert loaded.train_dataloader.dataset.type == "CaptionedImages"  # the config itself stays
    for index in range(len(plain)):
        torch.manual_seed(index)
        theirs, next_theirs = plain[index], torch.rand(())
        torch.manual_seed(index)
        ours, next_ours = cached[index], torch.rand(())
        assert next_ours == next_theirs
        assert ours["caption"] == theirs["caption"]
        assert ours["time_ids"].tolist() == theirs["time_ids"].tolist()
        assert ours["skipped"] == theirs["skipped"]
        assert theirs["sample"].startswith(ours["sample"])
    with pytest.raises(IndexError):
        cached[len(plain)]
    config = dict(num_workers=1, batch_size=2, dataset=cached, sampler=dict(type="DefaultSampler", shuffle=False))
    batch = next(iter(PlannedRunner.build_dataloader(dict(config, collate_fn=dict(type="default_collate")), seed=0)))
    assert batch["latent_mean"].shape == (2, 4, 16, 16)


def test_more_bad_rows_than_may_be_skipped(config, cache, tmp_path):
    options = runs.options(data_cache=cache, train_dataloader__dataset__max_skipped=0)
    ended = runs.tool("train", config, "--work-dir", tmp_path / "run", *options)
    runs.assert_one_line(ended, "table.jsonl: row ", "of 14 samples cannot be used, and max_skipped=0")
