"""A resumed run goes on exactly as if it had not stopped."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from diffdistill.hooks.common import distiller_of
from diffdistill.registry import HOOKS
from diffdistill.trained import check_weights


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


def plain(value):
    """`value` with dicts, lists and numbers of Python's own, which `torch.load(weights_only=True)` accepts."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


@HOOKS.register_module()
class ResumeHook(Hook):
    """Makes `--resume` exact and its checkpoints safe to load.

    Random numbers follow from the step's number. Log histories are saved as plain lists, so that a checkpoint loads with
    `torch.load(weights_only=True)`. A checkpoint of another student is refused.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        loop = runner.train_loop
        loop.dataloader_iterator = SeededIterator(loop.dataloader_iterator, runner.seed, runner.rank)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        hub = checkpoint["message_hub"]
        histories = {name: [values.tolist() for values in history.data] for name, history in hub["log_scalars"].items()}
        checkpoint["message_hub"] = plain({**hub, "log_scalars": histories})

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        check_weights(checkpoint["state_dict"], distiller_of(runner).state_dict(), runner._load_from or "the checkpoint")
        hub = checkpoint.get("message_hub", {})
        for name, history in hub.get("log_scalars", {}).items():
            if not isinstance(history, HistoryBuffer):
                hub["log_scalars"][name] = HistoryBuffer(*history)
