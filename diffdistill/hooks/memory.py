"""Memory in the log of a run without a GPU."""

import resource
import sys

import torch
from mmengine.hooks import Hook

from diffdistill.registry import HOOKS


@HOOKS.register_module()
class MemoryHook(Hook):
    """Logs the peak memory of the process in MiB as `memory`, as MMEngine's log does by itself on a GPU."""

    priority = "VERY_HIGH"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if torch.cuda.is_available():
            return
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
        runner.message_hub.update_scalar("train/memory", round(peak))
