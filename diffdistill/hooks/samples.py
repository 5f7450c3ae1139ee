"""Sample grids: the teacher's row (where there is one) above the student's, same prompts, same initial noise."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from diffdistill.engine.device import device_name
from diffdistill.engine.runner import ema_weights, model_of
from diffdistill.engine.sharding import FullyShard
from diffdistill.errors import InputError
from diffdistill.files import write_file_whole
from diffdistill.registry import HOOKS
from diffdistill.sampling.grid import picture_grid


@HOOKS.register_module()
class SampleHook(Hook):
    """Writes `samples/step_<N>.png` under the run and hands the same grid to the visualizer.

    Args:
        prompts: one column each; None takes no samples.
        interval: steps between two grids; one is always written at the end, where sampling is timed as well.
        seed: the initial noise of column i follows from seed + i.
    """

    priority = "LOW"

    def __init__(self, prompts: Sequence[str] | None = None, interval: int = 1000, seed: int = 0):
        if prompts is not None and not list(prompts):
            raise InputError("default_hooks.samples.prompts is empty; give a prompt, or None to take no samples")
        self.prompts, self.interval, self.seed = list(prompts or []), interval, seed
        self.teacher_row = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval) and not self.is_last_train_iter(runner):
            self.write(runner, runner.iter + 1)

    def after_train(self, runner) -> None:
        self.write(runner, runner.iter)
        self.time_sampling(runner)

    def draws(self, runner) -> bool:
        """Whether this rank samples: the first one does, and of a sharded model all at once."""
        return bool(self.prompts) and (is_main_process() or isinstance(runner.model, FullyShard))

    def time_sampling(self, runner) -> None:
        """Put the seconds that teacher and student take for a picture into the message hub, as `sampling`.

        Medians of three, one picture at a time and the two in turn, from text to pixels; the first round warms up.
        """
        if not self.draws(runner):
            return
        model = model_of(runner)
        seconds: dict[str, list[float]] = {"student": []} | ({"teacher": []} if model.teacher is not None else {})
        for _ in range(4):
            for role, found in seconds.items():
                start = time.perf_counter()
                (picture,) = model.sample(self.prompts[:1], [self.seed], teacher=role == "teacher")
                found.append(time.perf_counter() - start)
        medians = {role: round(statistics.median(found[1:]), 5) for role, found in seconds.items()}
        height, width, _ = picture.shape
        steps = model.scheduler()[1].get("num_inference_steps")  # the student's: a method may have its own
        sampling = dict(medians, device=device_name(), pixels=f"{width}×{height}", steps=steps)
        runner.message_hub.update_info("sampling", sampling)

    def write(self, runner, step: int) -> None:
        """Sample the prompts and write the grid of `step`; the teacher's row is sampled once and kept."""
        if not self.draws(runner):
            return
        model = model_of(runner)
        seeds = range(self.seed, self.seed + len(self.prompts))
        if self.teacher_row is None and model.teacher is not None:
            self.teacher_row = list(model.sample(self.prompts, seeds, teacher=True))
        with ema_weights(runner):
            student_row = list(model.sample(self.prompts, seeds))
        if not is_main_process():
            return
        label = f"student, step {step}" if model.distills else f"step {step}"
        rows = {"teacher": self.teacher_row, label: student_row}
        rows = {label: row for label, row in rows.items() if row is not None}
        grid = picture_grid(list(rows.values()), list(rows), self.prompts)
        path = Path(runner.work_dir, "samples", f"step_{step}.png")
        path.parent.mkdir(exist_ok=True)
        write_file_whole(lambda partial: grid.save(partial, format="PNG"), path)
        runner.visualizer.add_image("samples", np.asarray(grid), step)
