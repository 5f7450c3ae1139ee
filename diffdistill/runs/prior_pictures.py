"""Prior preservation: the class pictures of a DreamBooth run, made by the pipeline itself before it is tuned.

They are made before the Runner is built, and not by a hook: a data loader with workers reads its first batches as soon as it
exists, which is before any hook is called.
"""

import gc
import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diffdistill.datasets.class_pictures import ClassPictures
from diffdistill.errors import InputError
from diffdistill.models.base import DiffusionModel
from diffdistill.registry import DATASETS

OF_PIPELINE = ("type", "teacher", "base", "student", "sampling", "dtype")  # what decides how a model draws before training


def name_class_folder(config: Config) -> None:
    """Set the folder of class pictures where `config` has none: one beside the run's, for all runs of the same pipeline."""
    wanted = config.train_dataloader.dataset.get("class_images") if "train_dataloader" in config else None
    if not isinstance(wanted, dict) or wanted.get("folder"):
        return
    model = config.get("model", {}).to_dict()
    made_by = {key: model.get(key) for key in OF_PIPELINE} | {"prompt": wanted.get("prompt")}
    digest = hashlib.sha256(json.dumps(made_by, sort_keys=True, default=str).encode()).hexdigest()[:8]
    prompts = wanted.get("prompt") or "none"
    words = re.sub(r"\W+", "_", prompts if isinstance(prompts, str) else str(prompts[0])).strip("_")[:40]
    wanted.folder = str(Path(config.work_dir).parent / "class_pictures" / f"{words}_{digest}")


def make_class_pictures(config: Config, build: Callable[[], DiffusionModel]) -> None:
    """Draw what the training set of `config` lacks, on the main rank, with the untrained model that `build` returns.

    The other ranks wait for the files.
    """
    if not config.train_dataloader.dataset.get("class_images"):
        return
    pictures = DATASETS.build(config.train_dataloader.dataset).class_pictures
    missing = pictures.missing()
    if not missing:
        return
    if is_main_process():
        try:
            generate(build(), pictures, missing)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"out of memory with train_dataloader.dataset.class_images.batch_size={pictures.batch_size}: lower it;"
                " the class pictures made so far are kept"
            ) from error
    # By their files, since this may take longer than a collective operation may wait.
    while not all(pictures.path(index).exists() for index in missing):
        time.sleep(1)


def generate(model: DiffusionModel, pictures: ClassPictures, missing: list[int]) -> None:
    """Draw the pictures at the indices `missing` with a `model` that is not trained yet, on the training device.

    A batch is always the same: the numbers k B to k B + B - 1 for a batch size of B. What is drawn beside a picture changes
    its last digits; so it depends on its number alone, whatever was made before and however many are wanted.
    """
    pictures.clear()
    model = model.to(get_device()).eval()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"class pictures in {pictures.folder}", total=pictures.count)
        progress.advance(bar, pictures.count - len(missing))
        size = pictures.batch_size
        for start in sorted({index // size * size for index in missing}):
            batch = range(start, start + size)
            drawn = dict(zip(batch, model.sample([pictures.prompt(index) for index in batch], batch), strict=True))
            wanted = [index for index in batch if index in missing]
            for index in wanted:
                pictures.save(index, drawn[index])
            progress.advance(bar, len(wanted))
    del model
    gc.collect()  # its memory, before the training loads the model again
    torch.cuda.empty_cache()
