"""Updates that are not finite are left out, told and counted; a run that makes no others stops."""

import json
import re

import faults  # noqa: F401  (its hooks)
import pytest
import runs
import torch
from diffusers import UNet2DConditionModel

TASK_ONLY = "small_sd_xl_shapes_task_only.py"
EVERY_STEP = dict(default_hooks__checkpoint__interval=1, default_hooks__checkpoint__max_keep_ckpts=-1)


def train(work_dir, options, *args):
    return runs.tool("train", TASK_ONLY, "--work-dir", work_dir, *args, *runs.options(**options))


def refuse(constant):
    raise AssertionError(constant)


def finite(weights) -> bool:
    return all(tensor.isfinite().all() for tensor in weights.values())


@pytest.fixture(scope="module")
def run(thin_sdxl, tmp_path_factory):
    """Four updates of two steps each, where the third step and the sixth see NaN."""
    options = runs.shapes(
        thin_sdxl,
        train_cfg__max_iters=8,
        optim_wrapper__accumulative_counts=2,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=-1,
        **runs.EMA,
        **runs.fault("PoisonBatches", steps="[3,6]"),
    )
    return runs.trained(TASK_ONLY, tmp_path_factory.mktemp("guarded") / "run", options)


def test_an_update_that_is_left_out_is_told_and_kept_with_its_samples(run):
    """Those of the one batch of two that was bad; the shapes are told by their numbers."""
    kept = runs.checkpoint(run.work_dir, 8)["message_hub"]["runtime_info"]
    assert kept["skipped_in_a_row"] == 0
    assert [(each["step"], each["reason"]) for each in kept["skipped_steps"]] == [
        (4, "loss is not finite"),
        (6, "loss is not finite"),
    ]
    told = [line.partition("WARNING - ")[2] for line in run.out.splitlines() if "left out: its" in line]
    for line, each in zip(told, kept["skipped_steps"], strict=True):
        first, second = each["samples"]
        assert re.fullmatch(r"picture \d+", first)
        assert line == (
            f"update of step {each['step']} left out: its loss is not finite; among its samples: {first}, {second}"
        )
    assert json.loads((run.work_dir / "results.json").read_text())["skipped_steps"] == kept["skipped_steps"]
    page = (run.work_dir / "report.html").read_text()
    assert "steps that were skipped</th><td class=bad>2</td>" in page
    assert f"<li>step 4: loss is not finite ({', '.join(kept['skipped_steps'][0]['samples'])})</li>" in page


def test_nothing_that_is_not_finite_is_kept(run):
    found = runs.checkpoint(run.work_dir, 8)
    assert finite(found["state_dict"])
    assert finite(found["ema_state_dict"])
    assert finite(UNet2DConditionModel.from_pretrained(run.work_dir / "unet").state_dict())
    results = json.loads((run.work_dir / "results.json").read_text(), parse_constant=refuse)
    assert results["losses"]["loss"] > 0


def test_no_checkpoint_is_written_of_an_update_that_was_left_out(run):
    assert sorted(path.name for path in run.work_dir.glob("*.pth")) == ["iter_2.pth", "iter_8.pth"]


def test_a_run_stops_after_too_many_in_a_row_and_goes_on_from_what_was_good(thin_sdxl, tmp_path):
    options = runs.shapes(thin_sdxl, train_cfg__max_iters=8, **EVERY_STEP)
    bad = options | runs.fault("PoisonBatches", steps="[3,4,5,6]") | dict(default_hooks__guard__max_in_a_row=3)
    ended = train(tmp_path / "run", bad)
    assert ended.code == 3, ended
    assert re.fullmatch(
        r"error: the loss was not finite in 3 updates in a row, the last at step 5; among its samples: picture \d+,"
        rf" picture \d+; the same command with --resume goes on from {tmp_path}/run/iter_2\.pth, with a lower"
        r" optim_wrapper\.optimizer\.lr or without those samples\n",
        ended.err,
    )
    assert not (tmp_path / "run" / "unet").exists()
    runs.trained(TASK_ONLY, tmp_path / "run", options, "--resume")
    runs.trained(TASK_ONLY, tmp_path / "straight", options)
    one, other = (runs.checkpoint(tmp_path / name, 8) for name in ("run", "straight"))
    torch.testing.assert_close(one["state_dict"], other["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(one["optimizer"], other["optimizer"], rtol=0, atol=0)


def test_the_count_in_a_row_survives_a_resume(thin_sdxl, tmp_path):
    """Two updates are left out before the stop, two after it, and three in a row are too many."""
    options = runs.shapes(
        thin_sdxl,
        train_cfg__max_iters=4,
        default_hooks__guard__max_in_a_row=3,
        **runs.fault("PoisonBatches", steps="[3,4,5,6]"),
    )
    assert train(tmp_path, options).code == 0
    ended = train(tmp_path, options | dict(train_cfg__max_iters=8), "--resume")
    assert ended.code == 3, ended
    assert "in 3 updates in a row, the last at step 5" in ended.err


@pytest.mark.parametrize("rate", ["1e6", "1e38"])
def test_a_learning_rate_that_ruins_the_student_ends_without_an_export(thin_sdxl, tmp_path, rate):
    options = runs.shapes(thin_sdxl, train_cfg__max_iters=30, optim_wrapper__optimizer__lr=rate, **EVERY_STEP)
    ended = train(tmp_path, options)
    assert ended.code == 3, ended
    assert len(ended.err.splitlines()) == 1
    assert not (tmp_path / "unet").exists()
    for file in tmp_path.glob("*.pth"):
        assert finite(torch.load(file, weights_only=True)["state_dict"])
