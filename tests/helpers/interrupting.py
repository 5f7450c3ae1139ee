"""A hook that presses Ctrl-C while torch writes a checkpoint; for runs in processes of their own."""

import os
import signal
from collections import OrderedDict

from mmengine.hooks import Hook

from diffdistill.registry import HOOKS


class PressesCtrlC:
    """Pickled into a checkpoint, so that it acts in the middle of the writing."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGINT)
        return OrderedDict, ()


@HOOKS.register_module()
class InterruptSave(Hook):
    priority = "LOWEST"  # after ResumeHook has made everything plain

    def __init__(self, step: int):
        self.step = step

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner.iter + 1 == self.step:
            checkpoint["ctrl_c"] = PressesCtrlC()
