"""What a finished run leaves behind: the student in diffusers' format, and its figures."""

import json
import time
from pathlib import Path

import diffusers
import mmengine
import torch
import transformers
from mmengine.dist import master_only
from mmengine.hooks import Hook

import diffdistill
from diffdistill.hooks.baseline import describe
from diffdistill.hooks.common import distiller_of, ema_weights
from diffdistill.registry import HOOKS
from diffdistill.save import save_whole
from diffdistill.student import build_on_meta


@HOOKS.register_module()
class ExportHook(Hook):
    """At the end of training writes `<run>/unet/` (EMA weights if there is an EMA), `scheduler/` and `results.json`.

    The folders load in plain diffusers, with `UNet2DConditionModel.from_pretrained(<run>/unet)` and, where the student was
    trained for a sampler of its own, with that scheduler class.
    """

    priority = "VERY_LOW"

    def before_train(self, runner) -> None:
        self.start, self.first_step = time.time(), runner.iter

    @master_only
    def after_train(self, runner) -> None:
        distiller = distiller_of(runner)
        folder = Path(runner.work_dir, distiller.family.denoiser_name)
        with ema_weights(runner) as ema:
            save_whole(distiller.student, folder)
        save_whole(distiller.exported_scheduler(), Path(runner.work_dir, "scheduler"))
        results = self.results(runner, ema)
        Path(runner.work_dir, "results.json").write_text(json.dumps(results, indent=2) + "\n")
        lines = [f"{describe(record)}: {record_text(record)}" for record in results["validation"]]
        denoiser = type(distiller.student).__name__
        log = runner.logger.info
        for line in lines:
            log(line)
        log(f"Student ({results['student']['parameters']:,} parameters{', EMA weights' if ema else ''}): {folder}")
        log(f'  load it with diffusers: {denoiser}.from_pretrained("{folder}")')
        if Path(runner.work_dir, "samples").exists():
            log(f"Pictures: {Path(runner.work_dir, 'samples', f'step_{runner.iter}.png')}")
        log(f"Figures: {Path(runner.work_dir, 'results.json')}; logs: {runner.log_dir}")

    def results(self, runner, ema: bool) -> dict:
        distiller = distiller_of(runner)
        teacher = distiller.family.denoiser_config
        losses = {
            name.removeprefix("train/"): float(runner.message_hub.get_scalar(name).mean(20))
            for name in runner.message_hub.log_scalars
            if name.startswith("train/loss")
        }
        return dict(
            config=runner.experiment_name.rsplit("_", 2)[0],
            steps=runner.iter,
            seed=runner.seed,
            batch_size=runner.train_dataloader.batch_size * runner.world_size,
            seconds=round(time.time() - self.start, 1),
            seconds_per_step=round(runner.message_hub.get_scalar("train/time").mean(), 4),
            ema=ema,
            teacher=dict(
                checkpoint=distiller.family.checkpoint.name, parameters=parameters(distiller.family.denoiser_class, teacher)
            ),
            student=dict(
                parameters=sum(p.numel() for p in distiller.student.parameters()),
                feature_pairs=[f"{ours} <- {theirs}" for ours, theirs in distiller.pairs],
            ),
            losses=losses,
            validation=runner.message_hub.get_info("records", []),
            versions=dict(
                diffdistill=diffdistill.__version__,
                **{package.__name__: package.__version__ for package in (torch, mmengine, diffusers, transformers)},
            ),
        )


def parameters(denoiser_class: type, config: dict) -> int:
    return sum(p.numel() for p in build_on_meta(denoiser_class, config).parameters())


def record_text(record: dict) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in record.items() if name not in ("model", "step"))
