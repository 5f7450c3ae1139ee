"""A run's folder as a plain structure."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from diffdistill.errors import InputError
from diffdistill.files import read_json
from diffdistill.metrics.record import Role, role_of
from diffdistill.report.history import Curve, extend, join, read_scalars
from diffdistill.report.record import FILE as RECORD
from diffdistill.report.skipped import read_skipped

TIMESTAMP = re.compile(r"\d{8}_\d{6}")
GRID = re.compile(r"step_(0|[1-9]\d{0,11})\.png")
KINDS = dict(starts=list, history=dict, validation=list, steps=int, step=int, network=dict, prompts=list, not_finite=dict)
STAGE = re.compile(r"stage_(\d+)_(.+)")


@dataclass
class Grid:
    """A sample grid. `step` counts over all stages of a run, `label` is what a reader calls it."""

    step: int
    label: str
    path: Path


@dataclass
class Run:
    """What a folder says of its run; what it does not say is empty.

    Of a run in stages `stages` holds the runs of its stages, and curves, records and grids count their steps through.
    """

    folder: Path
    name: str
    record: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    validation: list[dict] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    skipped: list[dict] = field(default_factory=list)
    config: str = ""
    stages: list["Run"] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # what could not be read, and so is not shown

    @property
    def steps(self) -> int:
        """Steps done so far."""
        if self.stages:
            return sum(stage.steps for stage in self.stages)
        return max(
            [self.record.get("step", 0), self.results.get("steps", 0), *(steps[-1] for steps, _ in self.curves.values())]
        )

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end: it left `results.json`, and its record does not say that it still trains."""
        return bool(self.results) and (not self.record or self.record.get("finished", True))

    @property
    def boundaries(self) -> list[tuple[int, str]]:
        """First step and title of every stage."""
        first, found = 0, []
        for stage in self.stages:
            found.append((first, stage.name))
            first += stage.steps
        return found


def read_run(folder: str | Path) -> Run:
    """Read a run, or a run in stages. Raises InputError if nothing in `folder` is from a run."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder of a run, e.g. work_dirs/small_sd_xl_shapes")
    stages = sorted((int(STAGE.fullmatch(path.name)[1]), path) for path in folder.iterdir() if STAGE.fullmatch(path.name))
    runs = [read_one(path) for _, path in stages if path.is_dir()]
    runs = [run for run in runs if run.record or run.results or run.curves or run.damaged]
    run = combine(read_one(folder), runs) if runs else read_one(folder)
    if not (run.record or run.results or run.curves or run.damaged):
        raise InputError(f"{folder} is no run's folder: it has no report.json, no results.json and no <timestamp>/vis_data")
    return run


def read_one(folder: Path) -> Run:
    """The run in `folder` without its stages; logs and grids of an earlier run in the same folder are left out."""
    damaged: list[str] = []
    record = read_or_note(folder / RECORD, damaged)
    # What stands there while a run trains is from the one before it in this folder.
    results = read_or_note(folder / "results.json", damaged) if record.get("finished", True) else {}
    starts = [start["folder"] for start in record.get("starts", [])]
    found = sorted(path.name for path in folder.iterdir() if TIMESTAMP.fullmatch(path.name))
    # A run that is started afresh finds the logs and grids of the one before it in its folder.
    folders = [folder / name / "vis_data" for name in found if not starts or name in starts]
    logged: dict[str, Curve] = {}
    for scalars in (path / "scalars.json" for path in folders):
        logged = join(logged, read_scalars(scalars)) if scalars.exists() else logged
    configs = [path / "config.py" for path in folders] or sorted(folder.glob("*.py"))
    run = Run(
        folder=folder,
        name=record.get("name") or results.get("config") or folder.absolute().name,
        record=record,
        results=results,
        curves=extend(record.get("history", {}), logged),
        validation=results.get("validation") or record.get("validation", []),
        skipped=read_skipped(folder),
        config=configs[-1].read_text(encoding="utf-8", errors="replace") if configs and configs[-1].exists() else "",
        damaged=damaged,
    )
    began = record["starts"][0]["began"] if starts else 0
    run.grids = [grid for grid in find_grids(folder) if grid.step <= run.steps and grid.path.stat().st_mtime >= began]
    return run


def combine(run: Run, stages: list[Run]) -> Run:
    """`run` with the curves of its stages one behind the other; teacher, student and sizes are those of the last stage.

    The teacher's scores are the last teacher's, too, and the untrained student is that of the first stage.
    """
    run.curves, run.validation, run.grids, run.skipped, skipped_steps, first = {}, [], [], [], [], 0
    for number, stage in enumerate(stages, 1):
        run.damaged += stage.damaged
        title = STAGE.fullmatch(stage.folder.name)[2]
        stage.name = f"stage {number}: {title}"
        for name, (steps, values) in stage.curves.items():
            joined = run.curves.setdefault(name, [[], []])
            joined[0] += [first + step for step in steps]
            joined[1] += values
        for record in stage.validation:
            if role_of(record) is not Role.TEACHER or stage is stages[-1]:
                run.validation.append({**record, "step": first + record["step"]})
        run.skipped += stage.skipped
        skipped_steps += [{**step, "step": first + step["step"]} for step in stage.record.get("skipped_steps", [])]
        run.grids += [Grid(first + grid.step, f"{stage.name}, {grid.label}", grid.path) for grid in stage.grids]
        first += stage.steps
    last = stages[-1]
    run.record = last.record | dict(name=run.results.get("config") or run.folder.absolute().name)
    run.name = run.record["name"]
    run.record["starts"] = [start for stage in stages for start in stage.record.get("starts", [])]
    for key in ("not_finite", "samples", "skipped_samples"):
        run.record[key] = add(*(stage.record.get(key) for stage in stages))
    run.record["skipped_steps"] = skipped_steps
    run.config = run.config or last.config
    run.stages = stages
    return run


def add(*counts):
    """The sum of numbers, or of dicts of them; None counts nothing, and is the sum where nothing is known."""
    known = [count for count in counts if count is not None]
    if known and isinstance(known[0], dict):
        return {name: add(*(count.get(name) for count in known)) for name in known[0]}
    return sum(known) if known else None


def find_grids(folder: Path) -> list[Grid]:
    """The sample grids in the folder of a run, in the order of their steps."""
    steps = sorted(int(match[1]) for path in folder.glob("samples/step_*.png") if (match := GRID.fullmatch(path.name)))
    return [Grid(step, f"step {step:,}", folder / "samples" / f"step_{step}.png") for step in steps]


def read_or_note(file: Path, damaged: list[str]) -> dict:
    """The content of a JSON file of a run; {} where there is none, or it is damaged, which is then said in `damaged`."""
    try:
        content = read_json(file, f"{file.parent.name}/{file.name}")
        if wrong := next((key for key, kind in KINDS.items() if not isinstance(content.get(key, kind()), kind)), None):
            raise InputError(f"{file.parent.name}/{file.name} is damaged: its {wrong} is a {type(content[wrong]).__name__}")
    except InputError as error:
        damaged.append(str(error).partition(";")[0])
        return {}
    return content
