"""Training on aspect buckets: whole runs, every kind of denoiser, several ranks, and what the check refuses."""

import json
from collections import Counter

import kinds
import numpy as np
import pytest
import runs
import torch
from mmengine.hooks import Hook
from PIL import Image

from diffdistill.command import parse_options
from diffdistill.config.check import check, check_model
from diffdistill.config.memory import picture_size
from diffdistill.config.read import load_config
from diffdistill.engine.runner import build_dataloader
from diffdistill.errors import InputError
from diffdistill.families.reading import check_resolution
from diffdistill.models.base import build_model
from diffdistill.registry import HOOKS

SIZES = [(32, 32)] * 6 + [(48, 32)] * 5 + [(30, 60)] * 4 + [(64, 16)] * 1  # (width, height)
CONFIG = "small_sd_xl_pokemon_blip.py"
BUCKETS = dict(
    train_dataloader__dataset__pipeline__0__type="BucketCrop",
    train_dataloader__dataset__pipeline__0__step=8,
    train_dataloader__batch_sampler__type="AspectBatchSampler",
)
STEPS = dict(train_cfg__max_iters=13, default_hooks__checkpoint__interval=5, default_hooks__checkpoint__max_keep_ckpts=9)
LOSSES = {name: dict(type=kind) for name, kind in dict(task="TaskLoss", output="OutputKD", feature="FeatureKD").items()}
METHODS = dict(
    denoising=dict(type="DenoisingKD"),
    progressive=dict(type="ProgressiveDistillation", steps=2, guidance_scale=2.0),
    guidance=dict(type="GuidanceDistillation", guidance_scale=2.0),
    consistency=dict(type="LatentConsistency", guidance_scale=2.0, target="student"),
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of sixteen captioned pictures of four shapes."""
    folder = tmp_path_factory.mktemp("data") / "mixed"
    folder.mkdir()
    lines, rng = ["file_name,text"], np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,picture {number}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


@HOOKS.register_module()
class Seen(Hook):
    """Keeps the sizes and captions of the batches of the last run, and its losses."""

    def before_train(self, runner):
        type(self).batches, type(self).losses = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.batches.append((tuple(data_batch["pixel_values"].shape[2:]), tuple(data_batch["caption"])))
        self.losses.append(outputs["loss"].item())


def options(teacher, data, **changes):
    return runs.published(teacher, data, **BUCKETS | dict(default_hooks__seen__type="Seen") | changes)


@pytest.fixture(scope="module")
def run(thin_sdxl, mixed, tmp_path_factory):
    """A run of SSD-1B's config over an epoch and a half, 13 steps; a checkpoint after five."""
    work_dir = tmp_path_factory.mktemp("runs") / "buckets"
    ended = runs.trained(CONFIG, work_dir, options(thin_sdxl, mixed, **STEPS))
    ended.batches, ended.losses = Seen.batches, Seen.losses
    return ended


def test_an_epoch_has_every_picture_once_in_batches_of_one_bucket(run):
    first, rest = run.batches[:9], run.batches[9:]  # 3 + 3 + 2 + 1 batches of at most two
    assert Counter(caption for _, captions in first for caption in captions) == {f"picture {n}": 1 for n in range(16)}
    assert Counter(size for size, _ in first) == {(32, 32): 3, (24, 40): 3, (40, 24): 2, (16, 64): 1}
    assert rest != first[:4]
    assert all(np.isfinite(run.losses))


def test_the_log_and_the_figures_say_what_cropping_loses(run):
    figures = json.loads((run.work_dir / "results.json").read_text())
    buckets = figures["aspect_buckets"]
    assert figures["batch_size"] == 2
    assert buckets["buckets"] == {"16x64": 1, "24x40": 5, "32x32": 6, "40x24": 4}
    assert buckets["lost"] == pytest.approx((5 * (1 - (3 / 2) / (5 / 3)) + 4 * (1 - (5 / 3) / 2)) / 16)
    assert buckets["lost_to_squares"] == pytest.approx((5 * (1 / 3) + 4 * 0.5 + 0.75) / 16)
    log = run.out + run.err + "".join(path.read_text() for path in run.work_dir.glob("*/*.log"))
    assert "Aspect buckets: 16 pictures in 4 sizes, 9 batches an epoch on each rank; cropping loses 7." in log
    assert "and would lose 27." in log
    assert "cropping to aspect buckets loses" in (run.work_dir / "report.html").read_text()


def test_a_resumed_run_goes_on_with_the_next_batch(run, thin_sdxl, mixed, tmp_path):
    resume = ("--resume", run.work_dir / "iter_10.pth")
    ended = runs.trained(CONFIG, tmp_path / "run", options(thin_sdxl, mixed, **STEPS), *resume)
    assert (Seen.batches, Seen.losses) == (run.batches[10:], run.losses[10:])
    ours, theirs = (torch.load(path / "iter_13.pth", weights_only=True) for path in (ended.work_dir, run.work_dir))
    assert runs.differences(ours["state_dict"], theirs["state_dict"]) == []


def loader_config(data, **crop):
    return dict(
        batch_size=2,
        dataset=dict(
            type="CaptionedImages",
            source=str(data),
            pipeline=[dict(type="BucketCrop", **crop), dict(type="PackInputs")],
        ),
        sampler=dict(type="InfiniteSampler", shuffle=True),
        batch_sampler=dict(type="AspectBatchSampler"),
        collate_fn=dict(type="default_collate"),
    )


@pytest.mark.parametrize(
    ("kind", "method"),
    [*((kind, "denoising") for kind in ("sd3", "flux", "pixart", "sana", "qwen")), ("flux", "progressive")]
    + [("flux", "guidance"), ("flux", "consistency"), *(("sdxl", method) for method in METHODS)],
)
def test_every_denoiser_and_method_takes_batches_of_several_shapes(kind, method, mixed, thin_sdxl, tmp_path):
    if kind == "sdxl":
        teacher = dict(type="StableDiffusionXL", checkpoint=str(thin_sdxl))
    else:
        family, write, changes, _ = kinds.KINDS[kind]
        teacher = dict(type=family.__name__, checkpoint=str(write(tmp_path / "pipeline", **changes)))
        teacher["max_sequence_length"] = kinds.TOKENS
    # A scale that the student embeds is a range: it is sampled with others.
    how = METHODS[method] | (dict(guidance_scale=[2.0, 3.0]) if kind == "flux" and method != "denoising" else {})
    losses = LOSSES if method == "denoising" else dict(task=LOSSES["task"])
    config = dict(type="Distiller", teacher=teacher, student=dict(keep={}), method=how, losses=losses)
    model = build_model(config, check_model(config)).train()
    batches, seen = iter(build_dataloader(loader_config(mixed, buckets=[(32, 32), (32, 64), (64, 32)]), seed=0)), set()
    while len(seen) < 2:
        batch = next(batches)
        shape = tuple(batch["pixel_values"].shape[2:])
        if shape in seen:
            continue
        seen.add(shape)
        losses = model(**model.data_preprocessor(batch), mode="loss")
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
    assert any(height != width for height, width in seen)


def refusal(teacher, data, folder, **changes):
    """What the check of the published config, on buckets, says of the given changes."""
    found = options(teacher, data, **changes)
    if "train_dataloader__batch_sampler" in changes:
        del found["train_dataloader__batch_sampler__type"]
    config = [f"{key.replace('__', '.')}={value}" for key, value in found.items()]
    with pytest.raises(InputError) as refused:
        check(load_config(CONFIG, parse_options(config), str(folder / "run")))
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(train_dataloader__batch_sampler=None), "crops to 5 sizes, and a batch is of one: add"),
        (dict(train_dataloader__dataset__pipeline__0__step=64), "BucketCrop: no bucket of 1024 pixels"),
        (dict(train_dataloader__dataset__pipeline__0__step=5), "pictures of 25 x 40 do not split"),
        (dict(train_dataloader__dataset__pipeline__0__steps=5), "pipeline.0.steps is not a key of the config"),
        (dict(train_dataloader__drop_last=True), "batch_sampler option is mutually exclusive"),
        (dict(train_dataloader__batch_sampler__type="AspectSampler"), "the nearest: AspectBatchSampler"),
        (dict(train_dataloader__num_batch_per_epoch=2), "num_batch_per_epoch takes a part of the data set"),
        (dict(model__method__conditioning__type="RandomConditioning"), "gives batches of 1, and DenoisingKD needs 2"),
    ],
)
def test_what_buckets_cannot_do_is_refused(changes, words, thin_sdxl, mixed, tmp_path):
    assert words in refusal(thin_sdxl, mixed, tmp_path, **changes)


def test_pictures_beyond_the_places_of_an_sd3_are_refused(tiny_sd3):
    family = kinds.StableDiffusion3(checkpoint=str(tiny_sd3))
    check_resolution(family, 96, 32, "pipeline")
    with pytest.raises(InputError, match="pipeline: pictures of 32 x 128 are larger than its denoiser knows places: 96"):
        check_resolution(family, 32, 128, "pipeline")


def test_memory_is_that_of_the_largest_bucket(thin_sdxl):
    for crop, side in ((dict(size=1024), 1024), (dict(buckets="sdxl"), 1024), (dict(buckets=[(64, 64), (832, 1216)]), 1024)):
        pipeline = [f"train_dataloader.dataset.pipeline=[{dict(type='BucketCrop', **crop)}]"]
        assert picture_size(load_config(CONFIG, parse_options(pipeline)), None) == side


RANK = """
import json, sys, torch
from mmengine.dist import get_rank
from diffdistill.engine.runner import build_dataloader
torch.distributed.init_process_group("gloo")
loader = build_dataloader(json.loads(sys.argv[1]), seed=None)
batches = iter(loader)
seen = [next(batches) for _ in range(len(loader))]
print(json.dumps([[list(batch["pixel_values"].shape[2:]), batch["caption"]] for batch in seen]))
"""


@pytest.mark.processes
def test_two_ranks_share_an_epoch(mixed, tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    config = json.dumps(loader_config(mixed, size=32, step=8))
    ranks = [json.loads(ended.out.splitlines()[-1]) for ended in runs.two_ranks([str(tmp_path / "rank.py"), config])]
    assert len(ranks[0]) == len(ranks[1]) == 5  # ten batches: a bucket of nine was dealt out once more
    seen = Counter(caption for batches in ranks for _, captions in batches for caption in captions)
    assert seen == {f"picture {number}": 1 for number in range(16)}
