"""Short trainings of cuts, all with the same batches, noise and timesteps, and what is measured after them."""

import copy
import gc
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from diffdistill.engine.runner import build_dataloader
from diffdistill.errors import InputError
from diffdistill.evaluation.few_steps import build_metrics, evaluate_once
from diffdistill.files import finish_writing, read_json, write_file_whole
from diffdistill.models.base import DiffusionModel
from diffdistill.runs.load import Trained
from diffdistill.runs.train import train
from diffdistill.search.samples import Samples
from diffdistill.search.space import Cut, Space

LEFT_OUT = "baseline", "samples", "report", "memory"  # hooks: what they do is done once, for all candidates
PICTURES = "pictures.npy"


def name_of(cut: Cut) -> str:
    """A short name of a cut's folder."""
    return hashlib.sha1(cut.key.encode()).hexdigest()[:10]


def short_training(space: Space, cut: Cut, folder: Path, steps: int, seed: int | None) -> Config:
    """The config of the short training of a cut: the user's own, with that keep list and `steps` steps.

    Where the user's has another number of steps, the learning rate falls to zero by a cosine over these.
    """
    config = copy.deepcopy(space.config)
    config.model = space.model_of(cut)
    config.work_dir, config.log_level = str(folder), "ERROR"
    for key in ("val_cfg", "val_dataloader", "val_evaluator", "test_cfg", "test_dataloader", "test_evaluator"):
        config.pop(key, None)
    for hook in LEFT_OUT:
        config.default_hooks.pop(hook, None)
    if config.train_cfg.get("max_iters") != steps:
        config.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps)
        config.param_scheduler = [dict(type="CosineAnnealingLR", T_max=steps, by_epoch=False)]
    config.train_cfg.pop("val_interval", None)
    config.default_hooks.checkpoint.update(interval=steps, max_keep_ckpts=1)
    if seed is not None:
        config.randomness["seed"] = seed
    return config


def train_and_measure(
    space: Space, cut: Cut, folder: Path, steps: int, seed: int | None, samples: Samples, prompts: Sequence[str]
) -> tuple[float, dict[str, float]]:
    """The error and the metrics of a cut after its short training, which is not done again where it has finished.

    Leaves pictures of `prompts` in the folder, too.
    """
    config = short_training(space, cut, folder, steps, seed)
    student = folder / space.family.denoiser_name
    if not is_finished(folder):
        train(config, "auto" if (folder / "last_checkpoint").exists() else None)
        gc.collect()
        torch.cuda.empty_cache()
    finish_writing(student)
    config.model["losses"] = {}  # nothing is trained any more, so no teacher is kept
    model = Trained(config, str(student)).load()
    error = samples.error(model.student)
    metrics = measure(space.config, model)
    save_pictures(model, folder, prompts)
    for checkpoint in folder.glob("iter_*.pth"):
        checkpoint.unlink()
    return error, metrics


def is_finished(folder: Path) -> bool:
    """Whether a short training has left its figures."""
    try:
        return bool(read_json(folder / "results.json"))
    except InputError:
        return False


def measure(config: Config, model: DiffusionModel) -> dict[str, float]:
    """The metrics of the config's validation, of pictures of `model`; empty where it has none."""
    if config.get("val_evaluator") is None:
        return {}
    figures = evaluate_once(model, build_dataloader(config.val_dataloader), build_metrics(config))
    return {name: float(value) for name, value in figures.items()}


def save_pictures(model: DiffusionModel, folder: Path, prompts: Sequence[str]) -> None:
    """Pictures of `prompts`, from the initial noise that the sample grids of a training have, as `pictures.npy`."""
    if not prompts:
        return
    folder.mkdir(parents=True, exist_ok=True)
    pictures = model.sample(prompts, range(len(prompts)))

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # np.save would add a suffix to a name
            np.save(file, pictures)

    write_file_whole(write, folder / PICTURES)


def prompts_of(config: Config) -> list[str]:
    """The captions of the config's sample grids."""
    return list(((config.get("default_hooks") or {}).get("samples") or {}).get("prompts") or [])[:8]
