"""A resumed run goes on exactly as if it had not stopped."""

from collections.abc import Mapping

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from diffdistill.engine.feed import begin
from diffdistill.engine.runner import model_of
from diffdistill.models.saved import check_weights
from diffdistill.registry import HOOKS


def plain(value):
    """A copy of `value` made of Python's own dicts, lists and numbers, which `torch.load(weights_only=True)` accepts."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


@HOOKS.register_module()
class ResumeHook(Hook):
    """Makes `--resume` exact and its checkpoints safe to load.

    Training goes on with the batch behind its last step, and loads none of those before. Log histories are saved as plain
    lists, so that a checkpoint loads with `torch.load(weights_only=True)`. A checkpoint of another student is refused.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        begin(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        hub = checkpoint["message_hub"]
        histories = {name: [values.tolist() for values in history.data] for name, history in hub["log_scalars"].items()}
        checkpoint["message_hub"] = plain({**hub, "log_scalars": histories})

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Raise InputError for a checkpoint of another student, and turn the log histories back into MMEngine's buffers."""
        check_weights(checkpoint["state_dict"], model_of(runner).state_dict(), runner._load_from or "the checkpoint")
        hub = checkpoint.get("message_hub", {})
        for name, history in hub.get("log_scalars", {}).items():
            if not isinstance(history, HistoryBuffer):
                hub["log_scalars"][name] = HistoryBuffer(*history)
