"""Samples that the training set has left out: listed, counted, and too many of them an error."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook

from diffdistill.datasets.skipping import count_samples, sample_name, too_many
from diffdistill.registry import HOOKS
from diffdistill.report.skipped import FILE, by_row, key_of, read_skipped

NAMED = 10  # samples that the log names; the file names all


@HOOKS.register_module()
class SkippedHook(Hook):
    """Lists in `<run>/skipped.jsonl` which samples the training set has left out, each once, and why.

    A data set says so by `skipped` in its items, JSON lines with `source`, `row`, `file` and `reason`; or by its attribute
    `left_out`, of the same lines, where it has looked through all of them at the start. The number of samples left out
    stands in the message hub as `skipped_samples`. More than the data set's `most_skipped`, or than a stream allows by now,
    stop the run with an InputError. What filters have left of the set, its `narrowed`, goes into the log.

    All ranks write to the same file, by appending whole lines. A resumed run forgets what was left out after its checkpoint.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        self.file, self.known, self.end = Path(runner.work_dir, FILE), {}, 0
        if is_main_process():
            kept = [sample for sample in read_skipped(self.file.parent) if 0 < sample.get("step", 0) <= runner.iter]
            self.file.unlink(missing_ok=True)
            self.append(kept)
            self.append(numbered(getattr(runner.train_dataloader.dataset, "left_out", ""), 0))
        barrier()
        self.look(runner)
        for line in getattr(runner.train_dataloader.dataset, "narrowed", ()):
            runner.logger.info(line)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        lines = "".join(data_batch.get("skipped", ())) if isinstance(data_batch, Mapping) else ""
        new = [sample for sample in numbered(lines, batch_idx + 1) if key_of(sample) not in self.known] if lines else []
        if not new:
            return
        self.append(new)
        self.look(runner)
        for sample in new[: max(0, NAMED - len(self.known) + len(new))]:
            runner.logger.warning(f"left out: {describe(sample)}")
        dataset = runner.train_dataloader.dataset
        if len(self.known) > most_of(runner, dataset, batch_idx + 1):
            last, share, samples = describe(new[-1]), dataset.max_skipped, count_samples(dataset)
            raise too_many(dataset.source, len(self.known), samples, share, last, f"; all are listed in {self.file}")

    def append(self, samples: list[dict]) -> None:
        """Write a line for each of `samples` to the end of the file, all at once: other ranks write to it, too."""
        if samples:
            file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(file, "".join(json.dumps(sample) + "\n" for sample in samples).encode())
            finally:
                os.close(file)

    def look(self, runner) -> None:
        """Count the samples that all ranks have written since the last look."""
        if self.file.exists():
            with self.file.open("rb") as file:
                file.seek(self.end)
                whole = file.read().rpartition(b"\n")[0]
            self.end += len(whole) + bool(whole)
            self.known |= by_row(whole.decode().splitlines())
        runner.message_hub.update_info("skipped_samples", len(self.known))


def most_of(runner, dataset, step: int) -> float:
    """How many samples may have been left out by a step: of a stream a share of those so far, else of all."""
    if getattr(dataset, "streamed", False):
        return dataset.most_skipped_of(step * runner.train_dataloader.batch_size * runner.world_size)
    return getattr(dataset, "most_skipped", math.inf)


def numbered(lines: str, step: int) -> list[dict]:
    """The samples of JSON lines, each once, with the number of the step."""
    return [sample | {"step": step} for sample in by_row(lines.splitlines()).values()]


def describe(sample: dict) -> str:
    """Says which sample it is, and why it was left out."""
    return f"{sample_name(sample['row'], sample['file'])}: {sample['reason']}"
