"""Writes what a rank drew and where its weights ended."""

import json
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Probe(Hook):
    losses: ClassVar = []
    seeds: ClassVar = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs["loss"].item())
        self.seeds.append(torch.initial_seed())  # from which a step's noise and timesteps follow
        self.captions = data_batch["caption"]

    def after_train(self, runner):
        weights = [parameter.double().sum().item() for parameter in runner.model.module.student.parameters()]
        report = dict(losses=self.losses, seeds=self.seeds, captions=list(self.captions), weights=weights)
        Path(runner.work_dir, f"rank{runner.rank}.json").write_text(json.dumps(report))
