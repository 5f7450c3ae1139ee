"""What a resumed run has that it had not before: it is told, and the updates follow the config."""

import pytest
import runs

from diffdistill.engine.resuming import describe_changes

TASK_ONLY = "small_sd_xl_shapes_task_only.py"
# The schedule of shapes_100.py, laid out for six steps and for nine.
SIX, NINE = (dict(param_scheduler__0__T_max=steps, train_cfg__max_iters=steps) for steps in (6, 9))


@pytest.fixture(scope="module")
def options(thin_sdxl):
    return runs.shapes(thin_sdxl, default_hooks__checkpoint__interval=3, default_hooks__checkpoint__max_keep_ckpts=-1, **SIX)


@pytest.fixture(scope="module")
def run(options, tmp_path_factory):
    return runs.trained(TASK_ONLY, tmp_path_factory.mktemp("six") / "run", options)


def rates(ended) -> dict[int, float]:
    """Step -> learning rate in the log of a run."""
    lines = [line for line in ended.out.splitlines() if "Iter(train)" in line]
    return {int(line.split("[")[1].split("/")[0]): float(line.split("lr: ")[1].split()[0]) for line in lines}


def resumed(run, folder, options, step=6) -> runs.Ended:
    checkpoint = run.work_dir / f"iter_{step}.pth"
    return runs.trained(TASK_ONLY, folder, options, "--resume", str(checkpoint))


def told(ended) -> list[str]:
    return [line.partition("WARNING - ")[2] for line in ended.out.splitlines() if "other settings" in line]


def test_a_longer_run_follows_its_new_schedule(run, options, tmp_path):
    straight = rates(runs.trained(TASK_ONLY, tmp_path / "straight", options | NINE))
    ended = resumed(run, tmp_path / "resumed", options | NINE)
    assert rates(ended) == {step: straight[step] for step in (7, 8, 9)}
    (line,) = told(ended)
    assert line == (
        "the run goes on with other settings than it had: train_cfg.max_iters 6 -> 9; param_scheduler.0.T_max 6 -> 9"
    )


def test_a_new_learning_rate_takes_effect(run, options, tmp_path):
    ended = resumed(run, tmp_path, options | dict(optim_wrapper__optimizer__lr=1e-4), step=3)
    before = rates(run)
    assert rates(ended) == pytest.approx({step: before[step] / 10 for step in (4, 5, 6)}, rel=1e-3)
    assert told(ended) == ["the run goes on with other settings than it had: optim_wrapper.optimizer.lr 0.001 -> 0.0001"]


def test_a_schedule_that_ends_early_is_told(run, options, tmp_path):
    ended = resumed(run, tmp_path, options | dict(train_cfg__max_iters=7))
    assert told(ended) == [
        "the run goes on with other settings than it had: train_cfg.max_iters 6 -> 7. Schedules of the learning rate were"
        " left as they were: beyond their end it stays where they leave it"
    ]


def test_an_unchanged_config_is_told_nothing(run, options, tmp_path):
    assert not told(resumed(run, tmp_path, options, step=3))


def test_many_changes_stay_one_line():
    line = describe_changes({f"key{number}": (0, 1) for number in range(50)})
    assert len(line.splitlines()) == 1
    assert "key19 0 -> 1 and 30 more" in line
