"""All that can be known of a run before it starts, told at once: its mistakes, its sizes, its memory and its disk."""

from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from diffdistill.config.check import check
from diffdistill.config.disk import check_disk, disk_table, run_bytes
from diffdistill.config.stages import check_stages, stage_configs, title_of
from diffdistill.config.summary import summarize
from diffdistill.config.table import print_summary
from diffdistill.runs.folder import last_checkpoint
from diffdistill.runs.prior_pictures import name_class_folder


def check_run(config: Config, resume: str | None = None, console: Console | None = None) -> None:
    """Make all checks of a run and of its stages, and print its summary and what it will take; nothing is written.

    `resume` is that of `train`. Raises InputError for a mistake, and for a disk on which the run does not fit.
    """
    console = console or Console(highlight=False)
    staged = bool(config.get("stages"))
    configs = stage_configs(config) if staged else [config]
    for each in configs:
        name_class_folder(each)
    if staged:
        plans = check_stages(configs)
    else:
        config.resume = bool(resume)
        checkpoint = last_checkpoint(config.work_dir) if resume == "auto" else resume
        plans = [check(config, checkpoint or config.get("load_from"))]
    if None in plans:
        console.print("no mistake found; of a model that is not of this package there is no summary")
        return
    figures = summarize(config)
    names = [title_of(each) if staged else Path(config.filename or config.work_dir).stem for each in configs]
    taken = []
    for each, plan, name, sizes in zip(configs, plans, names, figures.get("stages", [figures]), strict=True):
        print_summary(sizes, name, console)
        taken.append((name, run_bytes(each, sizes, plan.family.native_size)))
    if staged:
        taken.append(("the run", {"what is exported": figures["disk"]["float32"]}))  # once more, of the last stage
    found = check_disk(config.work_dir, [size for _, size in taken])
    console.print(disk_table(taken, found))
    console.print("no mistake found; nothing was written")
