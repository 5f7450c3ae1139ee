"""Runs on data sets with bad samples: what is left out is listed and counted, and a resumed run leaves out the same."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import runs
import torch

from diffdistill.datasets.skipping import BadSampleError, lines_of
from diffdistill.hooks import SkippedHook
from diffdistill.report.skipped import read_skipped

BAD = {1: "01.png", 4: "04.png", 7: "07.png"}


@pytest.fixture
def folder(captioned_folder, tmp_path) -> Path:
    """Twelve pictures, three of which cannot be used: a truncated one, one that is none, and one without a caption."""
    folder = shutil.copytree(captioned_folder, tmp_path / "pictures")
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:60])
    (folder / "07.png").write_text("this is no picture")
    metadata = folder / "metadata.csv"
    lines = metadata.read_text().splitlines()
    lines[5] = "04.png,,0.4"
    metadata.write_text("\n".join(lines))
    return folder


def write_config(file: Path, teacher: Path, data: Path, workers: int, share: float) -> Path:
    """Write a config that trains the quick start's student on captioned pictures for six steps, without a validation."""
    pipeline = [dict(type="ResizeCrop", size=32, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")]
    dataset = dict(_delete_=True, type="CaptionedImages", source=str(data), pipeline=pipeline, max_skipped=share)
    loader = dict(batch_size=3, num_workers=workers, persistent_workers=workers > 0, dataset=dataset)
    file.write_text(
        f"""_base_ = ["diffdistill::shapes/small_sd_xl_shapes.py"]
model = dict(teacher=dict(checkpoint={str(teacher)!r}))
train_dataloader = {loader}
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=6)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=2), samples=dict(prompts=None))
"""
    )
    return file


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_leaves_out_the_same_and_is_bit_equal(thin_sdxl, folder, tmp_path, workers):
    config = write_config(tmp_path / "skips.py", thin_sdxl, folder, workers, 0.3)
    straight = runs.trained(config, tmp_path / "straight", {})
    listed = read_skipped(straight.work_dir)
    assert {sample["row"]: sample["file"] for sample in listed} == BAD
    assert {sample["reason"] for sample in listed if sample["row"] == 4} == {"there is no caption in 'text'"}
    results = json.loads((straight.work_dir / "results.json").read_text())
    assert results["skipped"] == dict(samples=3, of=12, first=listed)
    assert "3 of 12 samples were skipped: " in straight.out
    assert "samples that were skipped</th><td class=bad>3 of 12" in (straight.work_dir / "report.html").read_text()

    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(straight.work_dir / "iter_3.pth", resumed)
    (resumed / "last_checkpoint").write_text(str(resumed / "iter_3.pth"))
    # As a run that died in step 5 left it, in the middle of a line.
    (resumed / "skipped.jsonl").write_text((straight.work_dir / "skipped.jsonl").read_text() + '{"source": "x", "ro')
    runs.trained(config, resumed, {}, "--resume")
    assert read_skipped(resumed) == listed
    ours, theirs = (runs.checkpoint(run, 6) for run in (straight.work_dir, resumed))
    assert all(torch.equal(tensor, theirs["state_dict"][name]) for name, tensor in ours["state_dict"].items())


def test_more_than_the_set_allows_stop_the_run_in_one_line(thin_sdxl, folder, tmp_path):
    config = write_config(tmp_path / "skips.py", thin_sdxl, folder, 0, 0.2)
    ended = runs.tool("train", config, "--work-dir", tmp_path / "run")
    assert ended.code == 2
    error = ended.err.strip().splitlines()[-1]
    assert error.startswith(f"error: {folder}: row ")
    assert "3 of 12 samples cannot be used, and max_skipped=0.2 of the data set allows fewer" in error
    assert error.endswith(f"all are listed in {tmp_path / 'run' / 'skipped.jsonl'}")
    assert len(read_skipped(tmp_path / "run")) == 3


def runner(work_dir: Path, iteration: int = 0, **dataset):
    """As much of a Runner as the hook looks at."""
    info, warnings = {}, []
    return SimpleNamespace(
        work_dir=str(work_dir),
        iter=iteration,
        info=info,
        warnings=warnings,
        logger=SimpleNamespace(warning=warnings.append),
        message_hub=SimpleNamespace(update_info=info.__setitem__),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(**dataset)),
    )


def batch(*rows: int) -> dict:
    """A batch of two items, of which the first stands in the place of bad rows."""
    return dict(skipped=[lines_of([BadSampleError("here", row, f"{row}.png", "empty") for row in rows]), ""])


def test_ranks_share_one_list_of_whole_lines(tmp_path):
    one, other = SkippedHook(), SkippedHook()
    rank0, rank1 = runner(tmp_path), runner(tmp_path)
    one.before_train(rank0)
    other.known, other.end, other.file = {}, 0, one.file
    one.before_train_iter(rank0, 0, batch(1, 2))
    other.before_train_iter(rank1, 0, batch(3))
    one.before_train_iter(rank0, 1, batch(3, 4, 1))
    assert [(sample["row"], sample["step"]) for sample in read_skipped(tmp_path)] == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert (rank0.info["skipped_samples"], rank1.info["skipped_samples"]) == (4, 3)
    assert (
        len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 5
    )  # the first rank had not seen that row 3 was listed


def test_the_log_names_the_first_ones_alone(tmp_path):
    hook, here = SkippedHook(), runner(tmp_path)
    hook.before_train(here)
    for step in range(20):
        hook.before_train_iter(here, step, batch(step))
    assert here.warnings == [f"left out: row {row} ({row}.png): empty" for row in range(10)]
    assert here.info["skipped_samples"] == 20


def test_a_new_run_forgets_the_list_of_the_one_before(tmp_path):
    (tmp_path / "skipped.jsonl").write_text(json.dumps(dict(source="s", row=1, file=None, reason="", step=1)) + "\n")
    here = runner(tmp_path)
    SkippedHook().before_train(here)
    assert not (tmp_path / "skipped.jsonl").exists()
    assert here.info["skipped_samples"] == 0


def test_what_a_set_has_left_out_at_the_start_is_listed_once(tmp_path):
    left_out = lines_of([BadSampleError("here", 3, "3.png", "empty")])
    for iteration in (0, 4):
        SkippedHook().before_train(runner(tmp_path, iteration, left_out=left_out))
        assert [(sample["row"], sample["step"]) for sample in read_skipped(tmp_path)] == [(3, 0)]
        assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 1
