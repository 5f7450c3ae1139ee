"""The folder of a run: one training at a time, and going on from the last whole checkpoint."""

import fcntl
import json
import os
import shutil

import pytest
import runs
import torch

from diffdistill.errors import InputError
from diffdistill.runs.folder import last_checkpoint, locked

TASK_ONLY = "small_sd_xl_shapes_task_only.py"
EVERY_STEP = dict(default_hooks__checkpoint__interval=1, default_hooks__checkpoint__max_keep_ckpts=-1)


@pytest.fixture(scope="module")
def run(thin_sdxl, tmp_path_factory):
    options = runs.shapes(thin_sdxl, train_cfg__max_iters=4, **EVERY_STEP)
    return runs.trained(TASK_ONLY, tmp_path_factory.mktemp("folder") / "run", options).work_dir


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for name in ("iter_4.pth", "results.json"):
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / "last_checkpoint").write_text(str(run / "iter_3.pth"))
    return tmp_path / "run"


def resumed(work_dir, teacher, **changes) -> runs.Ended:
    options = runs.shapes(teacher, train_cfg__max_iters=4, **EVERY_STEP) | changes
    return runs.tool("train", TASK_ONLY, "--work-dir", work_dir, "--resume", *runs.options(**options))


def cut_short(file):
    os.truncate(file, file.stat().st_size // 2)


def test_a_copy_goes_on_from_its_own_checkpoint(copy, run):
    assert last_checkpoint(str(copy)) == str(copy / "iter_3.pth")
    (copy / "iter_3.pth").unlink()
    assert last_checkpoint(str(copy)) == str(run / "iter_3.pth")  # where the note says


@pytest.mark.parametrize("damage", [cut_short, lambda file: file.write_bytes(b""), lambda file: file.unlink()])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(copy, run, thin_sdxl, caplog, damage):
    damage(copy / "iter_3.pth")
    (copy / "last_checkpoint").write_text("elsewhere/iter_3.pth")
    ended = resumed(copy, thin_sdxl)
    assert ended.code == 0, ended
    assert "iter_3.pth is no checkpoint of a run, or damaged" in caplog.text
    assert "; the run goes on from iter_2.pth, the one before" in caplog.text
    assert "Iter(train) [3/4]" in ended.out
    assert "Iter(train) [2/4]" not in ended.out
    one, other = (runs.checkpoint(folder, 4) for folder in (run, copy))
    assert not runs.differences(one["state_dict"], other["state_dict"])


def test_without_a_whole_checkpoint_the_run_says_so(copy, thin_sdxl):
    for file in copy.glob("iter_*.pth"):
        cut_short(file)
    ended = resumed(copy, thin_sdxl)
    assert ended.code == 2, ended
    assert ended.err.endswith("and there is no other; start anew without --resume\n")


def test_a_second_run_in_a_folder_is_refused(copy, thin_sdxl):
    before = sorted(path.name for path in copy.rglob("*"))
    with locked(str(copy)):
        ended = resumed(copy, thin_sdxl)
    assert ended.code == 2, ended
    assert f"--work-dir={copy}: process {os.getpid()} on " in ended.err
    assert sorted(path.name for path in copy.rglob("*")) == before


def test_a_lock_that_nobody_holds_is_none(tmp_path):
    (tmp_path / ".lock").write_text("of a process that was killed")
    with locked(str(tmp_path)):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        with (tmp_path / ".lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not (tmp_path / ".lock").exists()


def test_whoever_holds_the_lock_is_named_as_far_as_it_is_known(tmp_path):
    with locked(str(tmp_path)):
        (tmp_path / ".lock").write_text("no JSON")
        with pytest.raises(InputError, match="another process trains there"), locked(str(tmp_path)):
            pass


def test_a_resume_with_another_optimizer_is_refused(copy, thin_sdxl):
    ended = resumed(copy, thin_sdxl, optim_wrapper__optimizer__type="Adam")
    assert ended.code == 2, ended
    assert "optim_wrapper.optimizer.type='Adam', but " in ended.err
    assert "iter_3.pth has the state of AdamW" in ended.err


def test_the_config_in_a_checkpoint_of_a_stranger_does_not_run(copy, thin_sdxl, tmp_path):
    """MMEngine would: it parses `meta["config"]` as Python when it resumes."""
    content = torch.load(copy / "iter_3.pth", weights_only=True)
    content["meta"]["config"] = f"open({str(tmp_path / 'ran')!r}, 'w')"
    torch.save(content, copy / "iter_3.pth")
    ended = resumed(copy, thin_sdxl)
    assert ended.code == 0, ended
    assert not (tmp_path / "ran").exists()
