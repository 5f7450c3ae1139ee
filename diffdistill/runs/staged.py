"""Training in stages: one after the other in one launch, to be stopped and resumed anywhere."""

import gc
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from diffdistill.config.folders import check_work_folder
from diffdistill.config.stages import check_stages, exported, run_name, stage_configs, title_of
from diffdistill.engine.launch import start_ranks
from diffdistill.errors import InputError
from diffdistill.families.checkpoint import check_weights
from diffdistill.files import finish_writing, read_json, write_text_whole, write_whole
from diffdistill.report.write import warn_of_errors, write_report
from diffdistill.runs.folder import LOCK, locked


def train_stages(config: Config, resume: str | None, train: Callable[[Config, str | None], None]) -> None:
    """Train every stage with `train(config, resume)`; then `<run>/<denoiser>` is the student of the last one.

    With `resume`, stages that have finished are skipped, and the one that was stopped goes on from its last checkpoint.
    """
    if resume not in (None, "auto"):
        raise InputError(f"--resume={resume}: a run in stages finds its checkpoint by itself; give --resume without a path")
    stages = stage_configs(config)
    check_work_folder(config)
    check_stages(stages)
    if config.launcher != "none":
        start_ranks(config)
    with locked(config.work_dir):
        train_all(config, stages, resume, train)


def train_all(config: Config, stages: list[Config], resume: str | None, train: Callable[[Config, str | None], None]) -> None:
    """Train those of `stages` that have not finished; see `train_stages`."""
    for number, stage in enumerate(stages):
        if resume and has_finished(stage):
            print_log(f"{title_of(stage)}, finished before", "current")
            Path(stage.work_dir, LOCK).unlink(missing_ok=True)  # killed after it had finished
            continue
        # Its student or its figures are damaged: both come again from its last checkpoint, to the bit.
        exports_again = bool(resume) and Path(stage.work_dir, "results.json").exists()
        # What an earlier run left in later stages came from another student; if this run is stopped, nothing may resume it.
        if is_main_process() and not exports_again:
            for stale in stages[number + bool(resume) :]:
                for name in ("results.json", "last_checkpoint"):
                    Path(stale.work_dir, name).unlink(missing_ok=True)
        train(stage, resume)
        resume = resume if exports_again else None
        gc.collect()  # this stage's models, before those of the next are loaded
        torch.cuda.empty_cache()
        barrier()  # the student has been written
        if is_main_process():
            report(config)
    if is_main_process():
        finish(config, stages)


def has_finished(stage: Config) -> bool:
    """Whether a stage has left its student and its figures, both whole. One that has not is gone on with, or done again."""
    finish_writing(exported(stage))
    try:
        check_weights(exported(stage), title_of(stage))
        return bool(read_json(Path(stage.work_dir, "results.json")))
    except InputError as error:
        if exported(stage).exists():
            print_log(f"{error}; the stage is finished again", "current", logging.WARNING)
        return False


def finish(config: Config, stages: list[Config]) -> None:
    """Write the run's own student, config and figures: those of the last stage, with a list of all."""
    run, student = Path(config.work_dir), exported(stages[-1])
    for source in (student, student.with_name("scheduler")):
        write_whole(lambda folder, source=source: shutil.copytree(source, folder), run / source.name)
    results = [read_json(Path(stage.work_dir, "results.json")) for stage in stages]
    rows = [dict(folder=Path(stage.work_dir).name, **result) for stage, result in zip(stages, results, strict=True)]
    figures = results[-1] | dict(config=run_name(config), seed=results[0]["seed"], stages=rows)
    write_text_whole(run / f"{run_name(config)}.py", config.pretty_text)
    write_text_whole(run / "results.json", json.dumps(figures, indent=2) + "\n")
    print_log(f"Student after {len(stages)} stages: {run / student.name}; figures: {run / 'results.json'}", "current")
    report(config)


def report(config: Config) -> None:
    """Write the page of the run so far, with links to the pages of its stages; a failure is a warning in the log.

    `default_hooks.report=None` is a run without one.
    """
    if "report" not in config.default_hooks:
        return

    def warn(text: str) -> None:
        print_log(text, "current", logging.WARNING)

    with warn_of_errors(warn, "no report of the stages together"):
        print_log(f"Report of all stages so far: {write_report(config.work_dir)}", "current")
