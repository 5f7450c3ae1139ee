"""Runs in stages from a config file, to be stopped anywhere."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from mmengine.hooks import Hook

from diffdistill.config.read import load_config
from diffdistill.registry import HOOKS
from diffdistill.runs.train import train


@HOOKS.register_module()
class StopAt(Hook):
    """Ends the process, as far as a run can tell."""

    def __init__(self, step: int):
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step:
            raise RuntimeError("stopped")


def launch(file: Path, folder: Path, resume: str | None = None, **options) -> Path:
    train(load_config(str(file), options, str(folder)), resume)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return UNet2DConditionModel.from_pretrained(folder).state_dict()


def assert_equal(ours: dict, theirs: dict) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
