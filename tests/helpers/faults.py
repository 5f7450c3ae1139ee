"""What can go wrong in a run, as hooks of its config: bad batches, a full disk, signals."""

import os
import resource
import signal

import torch
from mmengine.hooks import Hook

from diffdistill.registry import HOOKS


@HOOKS.register_module()
class PoisonBatches(Hook):
    """Makes the pictures of these steps NaN."""

    priority = "HIGHEST"

    def __init__(self, steps: list[int]):
        self.steps = steps

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter + 1 in self.steps:
            data_batch["pixel_values"] = torch.full_like(torch.stack(list(data_batch["pixel_values"])), float("nan"))


@HOOKS.register_module()
class FillDisk(Hook):
    """From the end of a step on, no file can become longer than `size` bytes."""

    priority = "HIGHEST"

    def __init__(self, step: int, size: int = 100_000):
        self.step, self.size = step, size

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@HOOKS.register_module()
class SendSignals(Hook):
    """Sends this process signals at moments "<method of a hook>:<step>:<name of the signal>", each once."""

    priority = "HIGHEST"

    def __init__(self, moments: list[str]):
        self.moments = list(moments)

    def send(self, method: str, step: int) -> None:
        for moment in [each for each in self.moments if each.startswith(f"{method}:{step}:")]:
            self.moments.remove(moment)
            os.kill(os.getpid(), getattr(signal, moment.rpartition(":")[2]))

    def before_run(self, runner) -> None:
        self.send("before_run", 0)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.send("before_train_iter", runner.iter + 1)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.send("after_val_iter", runner.iter)

    def after_train(self, runner) -> None:
        self.send("after_train", runner.iter)
