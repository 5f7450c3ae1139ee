"""Pictures for prompts, of pipelines and of the teachers and students of configs, all from the same initial noise."""

import gc
import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from rich.console import Console
from rich.progress import Progress
from torch import nn

from diffdistill.config.read import load_config, short_name
from diffdistill.config.stages import last_stage
from diffdistill.errors import InputError
from diffdistill.families.checkpoint import PACKAGED, Checkpoint
from diffdistill.families.known import denoiser_names, denoiser_of
from diffdistill.families.loading import load_pipeline
from diffdistill.families.runtimes import RuntimeFolder, runtime_of
from diffdistill.families.single_file import SUFFIX
from diffdistill.files import read_lines
from diffdistill.models.plan import DTYPES, warn_of_half_on_cpu
from diffdistill.registry import MODELS
from diffdistill.runs.load import Trained, exported_student
from diffdistill.sampling.control import Control
from diffdistill.students.size import count


@dataclass
class Sampler:
    """Something that draws a picture (H, W, 3), uint8, for a prompt and the seed of its initial noise.

    Noise is drawn on the CPU, so for one seed it is the same for all samplers of one latent shape, on any device.
    """

    name: str
    draw: Callable[[str, int], np.ndarray]
    parameters: int
    steps: int


@dataclass
class Row:
    """The pictures of one sampler, and the median of the seconds that one of them took."""

    name: str
    parameters: int
    steps: int
    pictures: list[np.ndarray]
    seconds: float

    @property
    def label(self) -> str:
        """What stands beside the row: name, parameters, and seconds and steps of a picture, on three lines."""
        millions = self.parameters / 1e6
        size = f"{millions:,.0f}" if millions >= 10 else f"{millions:.2f}"
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        return f"{self.name}\n{size} M parameters\n{self.seconds:.2g} s, {steps}"


def is_pipeline(source: str) -> bool:
    """Whether `source` is a pipeline's folder or single file, a packaged one, or a hub name; it is a config otherwise."""
    if source.startswith(PACKAGED) or Path(source).is_dir() or (source.endswith(SUFFIX) and "=" not in source):
        return True
    return "/" in source and "=" not in source and not source.endswith(".py")


def pipeline_sampler(
    source: str, options: Mapping, dtype: str, like: str | None = None, control: Control | None = None
) -> Sampler:
    """The sampler of the pipeline `source`, in `dtype`; `options` are arguments of the pipeline's call.

    A single file takes its small files from the pipeline `like`, if that is given; with `control` it draws under that.
    """
    checkpoint = open_source(source, like)
    if runtime_of(checkpoint.path):
        if control:
            raise InputError(
                f"--controlnet: {source} is of a runtime, whose U-Net takes no residuals; export a plain folder"
            )
        pipeline = RuntimeFolder(checkpoint, dtype, "--dtype").pipeline()
    else:
        pipeline = load_pipeline(checkpoint).to(get_device(), DTYPES[dtype])
    if control:
        pipeline, options = control.around(pipeline, source), {**options, **control.options}
    pipeline.set_progress_bar_config(disable=True)

    def draw(prompt: str, seed: int) -> np.ndarray:
        picture = pipeline(prompt, generator=torch.Generator().manual_seed(seed), output_type="np", **options).images[0]
        return (picture * 255).round().astype(np.uint8)

    name = source.removeprefix(PACKAGED).removesuffix(SUFFIX).rstrip("/").rsplit("/", 1)[-1]
    return Sampler(name, draw, count(denoiser_of(pipeline)), steps_of(type(pipeline), options))


def open_source(source: str, like: str | None) -> Checkpoint:
    """The pipeline `source`; of a single file, `like` is where its small files are."""
    return Checkpoint(source, "source", like if source.endswith(SUFFIX) else None)


def steps_of(pipeline_class: type, options: Mapping) -> int:
    """The sampler steps in `options`, else the default of the pipeline class."""
    default = inspect.signature(pipeline_class.__call__).parameters["num_inference_steps"].default
    return options.get("num_inference_steps", default)


def split_source(source: str) -> tuple[str, str | None]:
    """`CONFIG=CHECKPOINT` or `CONFIG` as (config, checkpoint or None)."""
    name, equals, checkpoint = source.partition("=")
    if equals and not (name and checkpoint):
        raise InputError(f"{source}: write CONFIG=CHECKPOINT")
    return name, checkpoint or None


def config_samplers(trained: Trained, student: str, teacher: str | None) -> list[Sampler]:
    """Samplers of a config's teacher, if `teacher` names it and it is in memory, and of what was trained, as `student`."""
    model = trained.load()

    def sampler(name: str, denoiser: nn.Module, of_teacher: bool) -> Sampler:
        def draw(prompt: str, seed: int) -> np.ndarray:
            return model.sample([prompt], [seed], teacher=of_teacher)[0]

        steps = steps_of(model.family.pipeline_class, model.scheduler(of_teacher)[1])
        return Sampler(name, draw, count(denoiser), steps)

    found = [sampler(student, model.student, False)]
    if teacher and model.teacher is not None:
        found.insert(0, sampler(teacher, model.teacher, True))
    return found


def samplers(
    sources: Sequence[str],
    options: Mapping,
    checkpoint: str | None = None,
    overrides: Mapping | None = None,
    dtype="float32",
    like: str | None = None,
    control: Control | None = None,
) -> Iterator[Sampler]:
    """The samplers of every source, loaded one source at a time.

    A source is a pipeline or `CONFIG[=CHECKPOINT]`, the checkpoint being `checkpoint`, or the student that the config's run
    exported, where it is not given. Those of a single config are "teacher" and "student"; of several, students are named
    after config and checkpoint, and a teacher that is the same as an earlier one is left out. Names are unique.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype} is unknown; choose from {', '.join(DTYPES)}")
    if like and not any(source.endswith(SUFFIX) for source in sources):
        raise InputError(f"--config={like}: no source is a single file (*{SUFFIX}); leave it out")
    if control and not all(map(is_pipeline, sources)):
        raise InputError(
            "--controlnet is for pipelines; export a config's student (`mim run diffdistill export`) and name that"
        )
    if any(map(is_pipeline, sources)):  # a config says its own
        warn_of_half_on_cpu(dtype, "--dtype")
    plans = [(source, *read_source(source, options, checkpoint, dict(overrides or {}), like)) for source in sources]
    taken: set[str] = set()
    teachers: list[Mapping] = []
    for source, config, trained in plans:
        if config is None:
            found = [pipeline_sampler(source, options, dtype, like, control)]
        else:
            stem = short_name(config.filename)
            noun = MODELS.get(config.model.type).noun
            student = noun if len(sources) == 1 else "_".join([stem, *checkpoint_name(split_source(source)[1])])
            known = dict(
                config.model.get("teacher") or {}, sampling=config.model.get("sampling"), dtype=config.model.get("dtype")
            )
            teacher = None if known in teachers else f"{stem}_teacher" if teachers else "teacher"
            teachers.append(known)
            found = config_samplers(trained, student, teacher)
        for sampler in found:
            sampler.name = unused(sampler.name, taken)
            yield sampler
        del found, sampler
        gc.collect()  # a module and its hooks refer to each other; the next source wants the memory


def read_source(
    source: str, options: Mapping, checkpoint: str | None, overrides: dict, like: str | None = None
) -> tuple[Config | None, Trained | None]:
    """The config of a source and what its run trained, checked before anything is loaded; (None, None) for a pipeline."""
    if is_pipeline(source):
        checkpoint = open_source(source, like)
        checkpoint.read_json("model_index.json")
        if runtime := runtime_of(checkpoint.path):
            runtime.check_installed(source)
        return None, None
    name, own = split_source(source)
    config = last_stage(load_config(name, overrides))
    weights = own or checkpoint or exported_student(config)
    return config, Trained(config, weights, options)


def checkpoint_name(checkpoint: str | None) -> list[str]:
    """The name of a checkpoint's file, or of the folder around a denoiser's, as a list of one; an empty list for None."""
    if checkpoint is None:
        return []
    path = Path(checkpoint).resolve()
    return [path.parent.name if path.name in denoiser_names() else path.stem]


def unused(name: str, taken: set[str]) -> str:
    """`name`, with a number where it is in `taken`; the name that is returned is added there."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def draw_rows(found: Iterator[Sampler], prompts: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """A row of pictures for every sampler, one picture at a time, with a progress bar on a terminal."""
    rows, console = [], Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for sampler in found:
            pictures, times = [], []
            for prompt, seed in progress.track(list(zip(prompts, seeds, strict=True)), description=sampler.name):
                start = time.perf_counter()
                pictures.append(sampler.draw(prompt, seed))
                times.append(time.perf_counter() - start)
            rows.append(Row(sampler.name, sampler.parameters, sampler.steps, pictures, statistics.median(times)))
            del sampler  # its models are not needed any more
    return rows


def all_prompts(given: Sequence[str], file: str | None, pictures: int = 1) -> list[str]:
    """The prompts given and those of `file`, one a line and empty lines left out, each `pictures` times in a row."""
    prompts = [*given, *(read_lines(file, "--prompts-file") if file else [])]
    if not prompts:
        raise InputError("give --prompt TEXT ...")
    if pictures < 1:
        raise InputError(f"--pictures {pictures}: give 1 or more")
    return [prompt for prompt in prompts for _ in range(pictures)]
