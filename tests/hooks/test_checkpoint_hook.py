"""A run that dies while it saves a checkpoint still has the one before."""

import resource

import faults  # noqa: F401  (its hooks)
import pytest
import runs


@pytest.fixture
def limited():
    """Puts back the limit of file sizes that FillDisk sets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_checkpoint_whole(thin_sdxl, tmp_path, limited):
    """The disk is full in the middle of the second checkpoint, where only one is kept."""
    config, work_dir = "small_sd_xl_shapes_task_only.py", tmp_path / "run"
    options = runs.shapes(
        thin_sdxl,
        train_cfg__max_iters=4,
        default_hooks__checkpoint__interval=2,
        default_hooks__checkpoint__max_keep_ckpts=1,
    )
    full = options | runs.fault("FillDisk", step=3)
    ended = runs.tool("train", config, "--work-dir", work_dir, *runs.options(**full))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert ended.code == 2, ended
    assert ended.err == (
        f"error: {work_dir / 'iter_4.pth'}: File too large; the system sets a limit to files; raise it (ulimit -f),"
        " or choose another disk;"
        f" the same command with --resume goes on from {work_dir / 'iter_2.pth'}\n"
    )
    assert runs.checkpoint(work_dir, 2)["meta"]["iter"] == 2
    assert (work_dir / "last_checkpoint").read_text() == str(work_dir / "iter_2.pth")
    assert not (work_dir / "iter_4.pth").exists()
    assert not list(work_dir.glob(".*"))

    ended = runs.trained(config, work_dir, options, "--resume")
    assert "Iter(train) [3/4]" in ended.out
    assert "Iter(train) [2/4]" not in ended.out
    assert [path.name for path in work_dir.glob("*.pth")] == ["iter_4.pth"]
    assert not list(work_dir.glob(".*"))


def test_as_many_checkpoints_are_kept_as_asked_for(shapes_run):
    assert sorted(path.name for path in shapes_run.work_dir.glob("*.pth")) == ["iter_3.pth", "iter_6.pth"]
    assert runs.checkpoint(shapes_run.work_dir, 6)["message_hub"]["runtime_info"]["keep_ckpt_ids"] == [3, 6]
