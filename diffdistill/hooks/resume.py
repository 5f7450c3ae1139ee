"""A resumed run goes on exactly as if it had not stopped."""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from diffdistill.errors import InputError
from diffdistill.registry import HOOKS


class SeededIterator:
    """Reseeds python, numpy and torch from (seed, rank, n) before batch n: a step depends on its number alone."""

    def __init__(self, iterator, seed: int, rank: int):
        self.iterator, self.seed, self.rank, self.count = iterator, seed, rank, 0

    def __iter__(self):
        return self

    def __next__(self):
        words = np.random.SeedSequence([self.seed, self.rank, self.count]).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])  # noqa: NPY002 (libraries draw from this one)
        torch.manual_seed(int(words[2]))
        self.count += 1
        return next(self.iterator)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Makes `--resume` exact and its checkpoints safe to load.

    Random numbers follow from the step's number. Log histories are saved as plain lists, so that a checkpoint loads with
    `torch.load(weights_only=True)`. A checkpoint of another student is refused: MMEngine would load what fits and go on.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        loop = runner.train_loop
        loop.dataloader_iterator = SeededIterator(loop.dataloader_iterator, runner.seed, runner.rank)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        hub = checkpoint["message_hub"]
        hub["log_scalars"] = {
            name: [[float(x) for x in values] for values in history.data] for name, history in hub["log_scalars"].items()
        }
        hub["runtime_info"], hub["resumed_keys"] = dict(hub["runtime_info"]), dict(hub["resumed_keys"])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        expected = runner.model.state_dict().keys()
        found = {name.removeprefix("module.") for name in checkpoint["state_dict"]}
        expected = {name.removeprefix("module.") for name in expected}
        if found != expected:
            name = sorted(found ^ expected)[0]
            side = "has no" if name in expected else "has, and the config's student has not,"
            raise InputError(
                f"the checkpoint is not of this config's student: it {side} {name}; give the config that it was trained with"
            )
        hub = checkpoint.get("message_hub", {})
        for name, history in hub.get("log_scalars", {}).items():
            if not isinstance(history, HistoryBuffer):
                hub["log_scalars"][name] = HistoryBuffer(*history)
