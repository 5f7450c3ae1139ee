"""Pictures for prompts, from a pipeline on disk or from what a config trains and its teacher."""

from collections.abc import Sequence
from pathlib import Path

import diffusers
import numpy as np
import torch
from mmengine.device import get_device
from PIL import Image

from diffdistill.config import load_config
from diffdistill.families.checkpoint import PACKAGED, Checkpoint
from diffdistill.grid import picture_grid
from diffdistill.run import exported_student, load_distiller
from diffdistill.stages import last_stage

Rows = dict[str, Sequence[np.ndarray]]


def sample_pipeline(source: str, prompts: Sequence[str], seeds: Sequence[int], options: dict) -> Rows | None:
    """One row of pictures of the pipeline in the folder `source`, or None if `source` is no such folder."""
    if not source.startswith(PACKAGED) and not Path(source, "model_index.json").exists():
        return None
    pipeline = Checkpoint(source, "source").load(diffusers.DiffusionPipeline.from_pretrained).to(get_device())
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    pictures = pipeline(list(prompts), generator=generators, output_type="np", **options).images
    return {Path(source.removeprefix(PACKAGED)).name: list((pictures * 255).round().astype(np.uint8))}


def sample_config(
    name: str, prompts: Sequence[str], seeds: Sequence[int], options: dict, checkpoint: str | None, overrides: dict
) -> Rows:
    """Rows of the teacher (where the config keeps one) and the student, from `checkpoint` or the run's exported student."""
    config = last_stage(load_config(name, overrides))
    distiller = load_distiller(config, checkpoint or exported_student(config))
    distiller.sampling.update(options)
    rows: Rows = {}
    if distiller.teacher is not None:
        rows["teacher"] = list(distiller.sample(prompts, seeds, teacher=True))
    rows[distiller.noun] = list(distiller.sample(prompts, seeds))
    return rows


def save_samples(rows: Rows, prompts: Sequence[str], folder: str) -> Path:
    """Write every picture as `<row>_<column>.png` and all of them as `grid.png`; gives the grid's path."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for label, row in rows.items():
        for column, picture in enumerate(row):
            Image.fromarray(picture).save(out / f"{label}_{column}.png")
    path = out / "grid.png"
    picture_grid(list(rows.values()), list(rows), list(prompts)).save(path)
    return path
