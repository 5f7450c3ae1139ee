"""Which run an exported checkpoint is from, and after how many of its steps."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config

from diffdistill.config.dumped import read_dumped
from diffdistill.config.read import drop_scopes
from diffdistill.config.stages import last_stage
from diffdistill.families.single_file import is_single_file
from diffdistill.files import read_json
from diffdistill.metrics.record import Role, role_of
from diffdistill.models.saved import step_of
from diffdistill.students.quantization import Quantization


@dataclass
class Source:
    """A checkpoint and its run; what is not known is empty.

    Attributes:
        config: as the run dumped it, with all changes that were made on the command line.
        results: the run's `results.json`.
        step: after how many steps the checkpoint was taken.
        averaged: whether the exported weights are an EMA.
        compressed: how the exported weights differ from those of the checkpoint, "int8", or None.
        quantize: how the exported weights are quantised, None for not at all.
    """

    checkpoint: Path
    config: Config
    results: dict = field(default_factory=dict)
    run: Path | None = None
    step: int | None = None
    averaged: bool = False
    compressed: str | None = None
    quantize: dict | None = None

    @property
    def measured(self) -> bool:
        """Whether the run measured these weights, and not their average instead, or full ones."""
        return self.of_run and self.quantize == self.trained_quantize

    @property
    def of_run(self) -> bool:
        """Whether they are the run's weights, however quantised, and not their average instead, or compressed."""
        return bool(self.results) and self.averaged == bool(self.results["ema"]) and not self.compressed

    @property
    def trained_quantize(self) -> dict | None:
        """How the weights of the run were quantised while it trained and measured them."""
        return Quantization(**((self.config.get("model") or {}).get("student") or {}).get("quantize") or {}).described

    @property
    def records(self) -> list[dict]:
        """Validations of the teacher, of the first weights and of these; then what `tools/test.py` found of these."""
        if not self.of_run:
            return []
        validation = self.results.get("validation", []) if self.measured else []
        start = [record for record in validation if role_of(record) is not Role.TRAINED]
        now = [record for record in validation if role_of(record) is not Role.TEACHER and record["step"] == self.step]
        tested = read_json(self.run / "test" / "results.json").get("results", [])
        own = self.checkpoint.resolve()
        tests = [record for record in tested if record["checkpoint"] and Path(record["checkpoint"]).resolve() == own]
        tests = [record for record in tests if record.get("quantize") == self.quantize]
        teachers = [record for record in tested if role_of(record) is Role.TEACHER]
        return [*(start + now if now else []), *(teachers + tests if tests else [])]

    @property
    def grid(self) -> Path | None:
        """The run's grid of just these weights, where there is one."""
        if not self.measured:
            return None
        stages: Sequence[dict] = self.results.get("stages") or []
        run = self.run / stages[-1]["folder"] if stages else self.run
        grid = run / "samples" / f"step_{self.step}.png"
        return grid if grid.exists() else None

    def copy_grid(self, folder: Path) -> bool:
        """Copy the grid to `folder/samples.png`; returns whether there is one."""
        if self.grid:
            shutil.copyfile(self.grid, folder / "samples.png")
        return self.grid is not None


def find_source(config: Config, checkpoint: str, averaged: bool | None = None) -> Source:
    """The run of `checkpoint`: a file or folder in it. `averaged` asks for the EMA, or for the raw weights beside it."""
    path, single = Path(checkpoint), is_single_file(checkpoint)
    results = read_json(path.parent / "results.json")
    if not results.get("versions") or single:  # of a test, or of anything else
        results = {}
    run = path.parent if results else None
    dumped = run / f"{Path(str(results.get('config'))).name}.py" if run else None  # a name, wherever the file is from
    if dumped and dumped.exists():
        config = read_dumped(dumped)
        drop_scopes(config._cfg_dict)
        config.work_dir = str(run)
        config = last_stage(config)
    step, has_average = results.get("steps"), bool(results.get("ema"))
    if path.is_file() and not single:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        step, has_average = saved["meta"]["iter"], "ema_state_dict" in saved
    elif (last := step_of(path)) is not None:
        step = last + 1
    return Source(path, config, results, run, step, has_average and averaged is not False)
