"""What a run takes on the disk, against what a run has written."""

import pytest
import runs

from diffdistill.command import parse_options
from diffdistill.config.disk import check_disk, run_bytes
from diffdistill.config.read import load_config
from diffdistill.config.summary import summarize
from diffdistill.errors import InputError


def estimate(thin_sdxl, **changes) -> dict[str, int]:
    options = runs.shapes(thin_sdxl, **runs.SIX_STEPS | runs.SAMPLES | runs.EMA | changes)
    config = load_config(runs.SHAPES, parse_options(runs.options(**options)[1:]))
    return run_bytes(config, summarize(config), side=32)


def test_checkpoints_and_export_are_as_large_as_those_of_a_run(shapes_run, thin_sdxl):
    """Within a fifth: a tiny checkpoint is for a good part names and the config."""
    sizes = list(estimate(thin_sdxl).values())
    checkpoints = sum(path.stat().st_size for path in shapes_run.work_dir.glob("*.pth"))
    export = sum(path.stat().st_size for path in (shapes_run.work_dir / "unet").iterdir())
    assert sizes[0] == pytest.approx(checkpoints, rel=0.2)
    assert sizes[1] == pytest.approx(export, rel=0.2)
    assert sum(path.stat().st_size for path in (shapes_run.work_dir / "samples").iterdir()) > 0


def test_as_many_checkpoints_as_are_there_while_one_is_saved(thin_sdxl):
    one, *_ = estimate(thin_sdxl, default_hooks__checkpoint__interval=6).values()
    two, *_ = estimate(thin_sdxl, default_hooks__checkpoint__max_keep_ckpts=1).values()
    all_six, *_ = estimate(
        thin_sdxl, default_hooks__checkpoint__max_keep_ckpts=-1, default_hooks__checkpoint__interval=1
    ).values()
    assert (two, all_six) == (2 * one, 6 * one)


def test_a_run_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "iter_1.pth").write_bytes(bytes(1000))
    found = check_disk(str(tmp_path / "there" / "not" / "yet"), [dict(a=10), dict(b=5)])
    assert found["needed"] == 15
    with pytest.raises(InputError, match=r"the run writes 1000000000000.0 GB, and .* are free"):
        check_disk(str(tmp_path / "there"), [dict(a=10**21)])
