"""What a run leaves behind: what it trained, in the format of diffusers or peft, and its figures."""

import json
import time
from pathlib import Path

import diffusers
import mmengine
import torch
import transformers
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook

import diffdistill
from diffdistill.datasets.skipping import count_samples
from diffdistill.engine.runner import batch_size_of, ema_weights, is_sharded, model_of
from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.files import save_whole, write_text_whole
from diffdistill.hooks.baseline import describe
from diffdistill.metrics.record import figures_of
from diffdistill.models.saved import LORA_FILE, save_adapters, save_models, trained_whole
from diffdistill.registry import HOOKS
from diffdistill.report.skipped import FILE, read_skipped
from diffdistill.students.cut import build_on_meta
from diffdistill.students.size import count


@HOOKS.register_module()
class ExportHook(Hook):
    """At the end of training writes what was trained (EMA weights if there is an EMA), `scheduler/` and `results.json`.

    A model that is trained whole goes to `<run>/<component>/`, which loads in plain diffusers, e.g. with
    `UNet2DConditionModel.from_pretrained("<run>/unet")`. Adapters go to `<run>/step<N>/`, N being the number of the last
    iteration, counted from 0: a run of 500 leaves `step499`, which loads with `pipe.load_lora_weights`. Where the student
    was trained for a sampler of its own, the scheduler loads with that class.

    Args:
        interval: iterations between two `step<N>` of an adapter; None writes the last alone.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int | None = None):
        if interval is not None and interval < 1:
            raise InputError(f"default_hooks.export.interval={interval}: give 1 or more, or None for the last step alone")
        self.interval = interval

    def before_train(self, runner) -> None:
        self.start, self.first_step = time.time(), runner.iter

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.interval and self.every_n_train_iters(runner, self.interval) and not self.is_last_train_iter(runner):
            self.save_adapters(runner, runner.iter)

    @master_only
    def save_adapters(self, runner, step: int) -> Path:
        """Write the adapters, with EMA weights if there is an EMA, to `<run>/step<step>`; returns the folder.

        Only the first rank does so; the others return None.
        """
        with ema_weights(runner):
            return save_adapters(model_of(runner), Path(runner.work_dir, f"step{step}"))

    def after_train(self, runner) -> None:
        with ema_weights(runner) as ema:
            models = runner.model.gather() if is_sharded(runner) else trained_whole(model_of(runner))
            folders = save_models(models, Path(runner.work_dir)) if is_main_process() else []
        self.finish(runner, folders, ema)

    @master_only
    def finish(self, runner, folders: list[Path], ema: bool) -> None:
        """Write adapters, the scheduler and the figures, and log where they and the models in `folders` are."""
        model, log = model_of(runner), runner.logger.info
        save_whole(model.exported_scheduler(), Path(runner.work_dir, "scheduler"))
        results = self.results(runner, ema)
        adapter = self.save_adapters(runner, runner.iter - 1) if model.adapted else None
        write_text_whole(Path(runner.work_dir, "results.json"), json.dumps(results, indent=2) + "\n")
        for record in results["validation"]:
            log(f"{describe(record)}: {record_text(record)}")
        average = ", EMA weights" if ema else ""
        for folder in folders:
            component = model.component(folder.name)
            title, kind = "Student" if model.distills else folder.name, type(component)
            log(f"{title} ({count(component):,} parameters{average}): {folder}")
            log(f'  load it with {kind.__module__.split(".")[0]}: {kind.__name__}.from_pretrained("{folder}")')
        if adapter:
            log(f"Adapter ({count(model.trained):,} parameters trained{average}): {adapter}")
            log(f"  load it with {how_to_load(adapter)}")
        if Path(runner.work_dir, "samples").exists():
            log(f"Pictures: {Path(runner.work_dir, 'samples', f'step_{runner.iter}.png')}")
        if (left_out := results["skipped"])["samples"]:
            of = f" of {left_out['of']:,}" if left_out["of"] else ""
            log(f"{left_out['samples']:,}{of} samples were skipped: {Path(runner.work_dir, FILE)}")
        if results["skipped_steps"]:
            log(f"{len(results['skipped_steps']):,} of {runner.iter:,} steps were skipped")
        log(f"Figures: {Path(runner.work_dir, 'results.json')}; logs: {runner.log_dir}")

    def results(self, runner, ema: bool) -> dict:
        """The content of `results.json`: how long and on what was trained, sizes, losses, validations, skipped, versions."""
        model = model_of(runner)
        trained, skipped = count(model.trained), read_skipped(Path(runner.work_dir))
        losses = {
            name.removeprefix("train/"): float(runner.message_hub.get_scalar(name).mean(20))
            for name in runner.message_hub.log_scalars
            if name.startswith("train/loss")
        }
        return dict(
            config=runner.experiment_name.rsplit("_", 2)[0],
            steps=runner.iter,
            seed=runner.seed,
            batch_size=batch_size_of(runner.train_dataloader) * runner.world_size,
            seconds=round(time.time() - self.start, 1),
            seconds_per_step=round(runner.message_hub.get_scalar("train/time").mean(), 4),
            ema=ema,
            **{"teacher" if model.distills else "base": origin(model.family)},
            student=dict(
                parameters=count(model.student),
                feature_pairs=[f"{ours} <- {theirs}" for ours, theirs in model.pairs],
            ),
            trained=dict(
                components=list(model.trained),
                parameters=trained,
                share=trained / sum(count(model.component(name)) for name in model.trained),
            ),
            losses=losses,
            validation=runner.message_hub.get_info("records", []),
            sampling=runner.message_hub.get_info("sampling"),
            skipped=dict(samples=len(skipped), of=count_samples(runner.train_dataloader.dataset), first=skipped[:5]),
            skipped_steps=runner.message_hub.get_info("skipped_steps", []),
            aspect_buckets=runner.message_hub.get_info("aspect_buckets"),
            versions=dict(
                diffdistill=diffdistill.__version__,
                **{package.__name__: package.__version__ for package in (torch, mmengine, diffusers, transformers)},
            ),
        )


def origin(family: Family) -> dict:
    """The `checkpoint` that the first weights came from, and the `parameters` of its denoiser."""
    denoiser = build_on_meta(family.denoiser_class, family.denoiser_config)
    checkpoint = family.denoiser.name if family.denoiser else family.checkpoint.name
    return dict(checkpoint=checkpoint, parameters=count(denoiser))


def how_to_load(folder: Path) -> str:
    """A line of Python that loads an adapter from `folder`."""
    names = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if (folder / LORA_FILE).exists():
        return f'pipe.load_lora_weights("{folder}")' + (f", and {names} with peft" if names else "")
    return f'peft.PeftModel.from_pretrained(pipe.<component>, "{folder}/<component>"), for {names}'


def record_text(record: dict) -> str:
    """The figures of a record as text, e.g. "accuracy 91.4, seen 92.6"."""
    return ", ".join(f"{name} {value:g}" for name, value in figures_of(record).items())
