"""Runs on tar shards: streamed and by index, on one and two ranks, stopped in the middle and resumed without a replay."""

import json
import shutil
from pathlib import Path

import pytest
import runs
import shards
import torch

from diffdistill.datasets import reading

SAMPLES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twenty-four samples in four tar files."""
    return shards.write_shards(tmp_path_factory.mktemp("data") / "wds", [6] * 4)


def write_config(file: Path, teacher: Path, data: Path, kind: str, workers: int, **dataset) -> Path:
    """Write a config that trains the quick start's student on shards for six steps, without teacher and validation."""
    pipeline = [dict(type="ResizeCrop", size=32, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")]
    dataset = dict(_delete_=True, type=kind, source=str(data), pipeline=pipeline, **dataset)
    loader = dict(batch_size=2, num_workers=workers, persistent_workers=True, prefetch_factor=2, dataset=dataset)
    file.write_text(
        f"""_base_ = ["diffdistill::shapes/small_sd_xl_shapes_task_only.py"]
model = dict(teacher=dict(checkpoint={str(teacher)!r}))
custom_imports = dict(imports=["diffdistill.engine", "seen"])
custom_hooks = [dict(type="Seen")]
train_dataloader = {loader}
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=6)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(
    checkpoint=dict(interval=3, max_keep_ckpts=2), samples=dict(prompts=None), logger=dict(interval=1))
"""
    )
    return file


def interrupted(straight: Path, folder: Path) -> Path:
    """What a run that died behind step 3 would have left."""
    folder.mkdir()
    shutil.copy(straight / "iter_3.pth", folder)
    (folder / "last_checkpoint").write_text(str(folder / "iter_3.pth"))
    return folder


def captions(folder: Path, rank: int = 0) -> list[list[str]]:
    return json.loads((folder / f"captions_{rank}.json").read_text())


def assert_same_end(straight: Path, resumed: Path):
    ours, theirs = (runs.checkpoint(folder, 6) for folder in (straight, resumed))
    for part in ("state_dict", "optimizer"):
        assert not runs.differences(ours[part], theirs[part], part)
    losses = [run["message_hub"]["log_scalars"]["train/loss"] for run in (ours, theirs)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["CaptionStream", "CaptionedImages"])
def test_a_resumed_run_is_bit_equal_and_decodes_nothing_of_the_steps_done(
    thin_sdxl, folder, tmp_path, monkeypatch, kind, workers
):
    """And persistent_workers and prefetch_factor do no harm where there are no workers."""
    more = dict(shuffle_buffer=4) if kind == "CaptionStream" else {}
    config = write_config(tmp_path / "run.py", thin_sdxl, folder, kind, workers, **more)
    straight = runs.trained(config, tmp_path / "straight", {}).work_dir
    resumed = interrupted(straight, tmp_path / "resumed")
    decoded, read = [], reading.read_picture
    monkeypatch.setattr(reading, "read_picture", lambda *args: decoded.append(1) or read(*args))
    runs.trained(config, resumed, {}, "--resume")
    looked_at = 3 if kind == "CaptionedImages" else 1  # by the check of the config, and where the set is built
    assert len(decoded) <= looked_at + (0 if workers else 6)
    assert captions(resumed) == captions(straight)[3:]
    assert_same_end(straight, resumed)


def test_a_set_that_is_a_stream_has_no_length_in_any_record(thin_sdxl, folder, tmp_path):
    data = shutil.copytree(folder, tmp_path / "wds")
    bad = {f"{number:09d}": shards.sample(number) for number in range(6)}
    bad["000000002"]["jpg"] = b"no picture"
    shards.write_shard(data / "00000.tar", bad)
    config = write_config(
        tmp_path / "run.py", thin_sdxl, data, "CaptionStream", 0, filters=["aesthetic < 1"], shuffle_buffer=3
    )
    ended = runs.trained(config, tmp_path / "run", {})
    results = json.loads((ended.work_dir / "results.json").read_text())
    assert (results["skipped"]["samples"], results["skipped"]["of"]) == (1, None)
    assert results["skipped"]["first"][0]["file"] == "00000.tar/000000002.jpg"
    assert "1 samples were skipped: " in ended.out
    assert "samples that were skipped</th><td class=bad>1<" in (ended.work_dir / "report.html").read_text()
    log = next(ended.work_dir.glob("*/*.log")).read_text()
    assert f"{data}: the stream is filtered by 'aesthetic < 1'" in log


def test_other_workers_begin_a_new_pass_and_say_so(thin_sdxl, folder, tmp_path):
    config = write_config(tmp_path / "run.py", thin_sdxl, folder, "CaptionStream", 0, shuffle_buffer=4)
    straight = runs.trained(config, tmp_path / "straight", {}).work_dir
    resumed = interrupted(straight, tmp_path / "resumed")
    runs.trained(config, resumed, dict(train_dataloader__num_workers=2), "--resume")
    log = next(resumed.glob("*/*.log")).read_text()
    assert "the stream begins a new pass: workers 1 -> 2, and its parts go by them" in log
    assert captions(resumed) != captions(straight)[3:]
    positions = runs.checkpoint(resumed, 6)["message_hub"]["runtime_info"]["stream"]["positions"]
    assert {position["epoch"] for own in positions for position in own} == {1}


def test_a_checkpoint_without_a_stream_still_resumes(thin_sdxl, folder, tmp_path):
    """As those of before there were any."""
    config = write_config(tmp_path / "run.py", thin_sdxl, folder, "CaptionStream", 0, shuffle_buffer=4)
    straight = runs.trained(config, tmp_path / "straight", {}).work_dir
    resumed = interrupted(straight, tmp_path / "resumed")
    content = runs.checkpoint(resumed, 3)
    del content["message_hub"]["runtime_info"]["stream"], content["message_hub"]["resumed_keys"]["stream"]
    torch.save(content, resumed / "iter_3.pth")
    runs.trained(config, resumed, {}, "--resume")
    assert captions(resumed)[0] == captions(straight)[0]  # the stream begins anew


@pytest.mark.processes
@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_all_samples_once_and_go_on_in_mid_stream(thin_sdxl, folder, tmp_path, workers):
    config = write_config(tmp_path / "run.py", thin_sdxl, folder, "CaptionStream", workers, shuffle_buffer=4)
    path = f"{runs.ROOT}:{runs.ROOT}/tests/helpers"

    def train(work_dir: Path, *words: str):
        words = ("--launcher", "pytorch", "--work-dir", work_dir, *words)
        runs.two_ranks(runs.program("train", [config, *words]), PYTHONPATH=path)

    straight = tmp_path / "straight"
    train(straight)
    seen = [{caption for batch in captions(straight, rank) for caption in batch} for rank in (0, 1)]
    assert [len(own) for own in seen] == [SAMPLES // 2] * 2
    assert seen[0] | seen[1] == {f"picture {number}" for number in range(SAMPLES)}
    resumed = interrupted(straight, tmp_path / "resumed")
    train(resumed, "--resume")
    for rank in (0, 1):
        assert captions(resumed, rank) == captions(straight, rank)[3:]
    assert_same_end(straight, resumed)
    assert len(runs.checkpoint(straight, 6)["message_hub"]["runtime_info"]["stream"]["positions"]) == 2


BATCHES = "dict(type='torch.utils.data.BatchSampler', sampler=[0], batch_size=2, drop_last=False)"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f"train_dataloader['batch_sampler'] = {BATCHES}", "train_dataloader.batch_sampler"),
        ("train_dataloader['num_batch_per_epoch'] = 3", "train_dataloader.num_batch_per_epoch"),
        ("param_scheduler = [dict(type='LinearLR', convert_to_iter_based=True)]", "param_scheduler.0.convert_to_iter_based"),
    ],
)
def test_what_needs_a_length_is_one_line(thin_sdxl, folder, tmp_path, line, key):
    config = write_config(tmp_path / "run.py", thin_sdxl, folder, "CaptionStream", 0)
    config.write_text(f"{config.read_text()}{line}\n")
    ended = runs.tool("train", config, "--work-dir", tmp_path / "run")
    runs.assert_one_line(ended, f"{key}: a stream is read in its own order")
