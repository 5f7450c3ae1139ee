"""What a run will take on the disk, from its config, beside what is free there."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from rich.table import Table

from diffdistill.config.parts import entries
from diffdistill.config.table import grid
from diffdistill.errors import InputError


def run_bytes(config: Config, figures: Mapping, side: int) -> dict[str, int]:
    """Bytes that a run without stages writes, by what they are, from the `figures` of its summary.

    A checkpoint holds weights, optimizer state and average, and while it is saved, those that it outdates are still there.
    Pictures, of `side` pixels, count as if PNG did not compress them; logs are left out.
    """
    memory, last = figures["memory"], config.train_cfg.max_iters
    hooks = {hook["type"]: hook for kind in ("default_hooks", "custom_hooks") for _, hook in entries(config.get(kind), kind)}
    checkpoint = sum(memory.get(key) or 0 for key in ("weights", "critics", "optimizer", "ema"))
    saving = next((hook for name, hook in hooks.items() if str(name).endswith("CheckpointHook")), None)
    saves = kept = 0
    if saving:
        interval, most = saving.get("interval", -1), saving.get("max_keep_ckpts", -1)
        saves = -(-last // interval) if interval > 0 else 0
        kept = min(saves, most + 1) if most > 0 else saves
    weights = figures["disk"]["float32"]
    adapters = last // hooks["ExportHook"]["interval"] if hooks.get("ExportHook", {}).get("interval") else 0
    samples = hooks.get("SampleHook") or {}
    grids = last // samples.get("interval", 1000) + 1 if samples.get("prompts") else 0
    pictures = 3 * side**2
    classes = config.train_dataloader.dataset.get("class_images") or {}
    return {
        f"{kept} checkpoints, one while it is saved" if kept > 1 else "checkpoint": kept * checkpoint,
        "what is exported": (1 + adapters) * weights,
        f"{grids} grids of samples": grids * 2 * len(samples.get("prompts") or []) * pictures,
        "class pictures": classes.get("count", 200) * pictures if classes else 0,
    }


def check_disk(work_dir: str, runs: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The bytes of all `runs`, by what they are, with what is `free`; raises InputError if they do not fit.

    What an earlier try has left in `work_dir` is written over, and counts as free.
    """
    found = Path(work_dir).absolute()
    there = sum(path.stat().st_size for path in found.rglob("*") if path.is_file()) if found.is_dir() else 0
    while not found.exists():
        found = found.parent
    free, needed = shutil.disk_usage(found).free + there, sum(sum(run.values()) for run in runs)
    if needed > free:
        raise InputError(
            f"--work-dir={work_dir}: the run writes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; lower"
            " default_hooks.checkpoint.max_keep_ckpts, or choose another disk"
        )
    return dict(needed=needed, free=free)


def disk_table(runs: Sequence[tuple[str, Mapping[str, int]]], found: Mapping[str, int]) -> Table:
    """A table of what each of `runs` (its title and its bytes) writes, in GB of 10^9 bytes."""
    table = grid("", "GB on disk", " ")
    for label, size in rows(runs):
        table.add_row(label, f"{size / 1e9:.2f}", "")
    table.add_section()
    table.add_row("in all", f"{found['needed'] / 1e9:.2f}", f"of {found['free'] / 1e9:.2f} free")
    return table


def rows(runs: Sequence[tuple[str, Mapping[str, int]]]) -> Iterator[tuple[str, int]]:
    """What is written, with the title of its run where there are several; what takes nothing is left out."""
    for title, run in runs:
        for label, size in run.items():
            if size:
                yield f"{title}: {label}" if len(runs) > 1 else label, size
