"""What is compared: a pipeline or denoiser, from a folder, the hub or a config, with its weights or with random ones."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from mmengine.config import Config
from torch import nn

from diffdistill.benchmarks.random_weights import random_model, random_pipeline
from diffdistill.config.check import check_model
from diffdistill.config.read import load_config, short_name
from diffdistill.config.stages import last_stage, plan_stages, stage_configs
from diffdistill.errors import InputError
from diffdistill.families.architectures import planning
from diffdistill.families.base import Family
from diffdistill.families.checkpoint import PACKAGED, Checkpoint
from diffdistill.families.known import denoiser_names, find_family
from diffdistill.families.loading import freeze, load_pipeline, without_pickles
from diffdistill.models.plan import Plan
from diffdistill.students.denoisers.rules import RULES

TEACHER = ":teacher"
LATENT_PIXELS = 8  # of a denoiser alone, without a VAE that tells: most published families have this


@dataclass
class Candidate:
    """A denoiser to measure, with its family, and the pipeline around it, where they are known."""

    name: str
    denoiser: nn.Module
    pipeline: diffusers.DiffusionPipeline | None
    weights: str  # "checkpoint" or "random"
    family: Family | None = None

    @property
    def latent_pixels(self) -> int:
        """How many pixels of a picture's side are one of the latents'."""
        return self.family.vae_scale if self.family else LATENT_PIXELS


@dataclass(frozen=True)
class Loader:
    """Loads candidates in `dtype` to `device`; with `random_weights`, config files are all that is read.

    With `pipelines=False` the denoisers stay alone, to save the memory of VAEs and text encoders.
    """

    dtype: torch.dtype
    device: str
    random_weights: bool = False
    pipelines: bool = True

    def load(self, source: str) -> Candidate:
        """The candidate that `source` names: a pipeline or denoiser, in a folder or on the hub, or `CONFIG[:teacher]`.

        Of a config, what is on disk is loaded with its weights: the student that its run exported, or a teacher in a folder.
        All else has random weights, as nothing is downloaded for a config. Raises InputError for what cannot be loaded.
        """
        checkpoint_like = source.startswith(PACKAGED) or Path(source).expanduser().is_dir()
        if checkpoint_like and self.is_denoiser(source):
            return self.load_denoiser(source)
        if checkpoint_like or ("/" in source and not source.removesuffix(TEACHER).endswith(".py")):
            return self.load_pipeline(source)
        return self.load_config(source)

    @staticmethod
    def is_denoiser(source: str) -> bool:
        """Whether `source` is the folder of a denoiser alone, without a pipeline around it."""
        return Path(source, "config.json").exists() and not Path(source, "model_index.json").exists()

    def load_denoiser(self, folder: str) -> Candidate:
        """The denoiser in `folder`, without a pipeline. Raises InputError for a class that has no rules."""
        checkpoint = Checkpoint(folder, "source")
        config = checkpoint.read_json("config.json")
        class_name = config.get("_class_name")
        if class_name not in RULES:
            raise InputError(f"source={folder}: holds a {class_name}; known denoisers: {', '.join(RULES)}")
        path = Path(folder).resolve()
        name = path.parent.name if path.name in denoiser_names() else path.name
        if self.random_weights:
            return Candidate(name, self.random("diffusers", class_name, config), None, "random")
        checkpoint.check_components([""])
        return Candidate(name, self.read(getattr(diffusers, class_name), checkpoint), None, "checkpoint")

    def load_pipeline(self, source: str) -> Candidate:
        """The denoiser of the pipeline `source` (a folder, a packaged pipeline or a hub name), with the pipeline around it.

        Raises InputError for a pipeline of no known family, and for one that cannot be read.
        """
        name = source.removeprefix(PACKAGED).rstrip("/").rsplit("/", 1)[-1]
        if self.random_weights:
            with planning():
                family = find_family(Checkpoint(source, "source"))
                denoiser = self.random("diffusers", family.denoiser_class.__name__, family.denoiser_config)
                return Candidate(name, denoiser, self.surround(family, denoiser), "random", family)
        try:
            family = find_family(Checkpoint(source, "source"))
            if not self.pipelines:
                denoiser = self.read(family.denoiser_class, family.checkpoint, family.denoiser_name)
                return Candidate(name, denoiser, None, "checkpoint", family)
            options = dict(pipeline_class=family.pipeline_class, dtype=self.dtype, **family.load_options)
            pipeline = self.quietly(load_pipeline, family.checkpoint, **options).to(self.device)
        except InputError as error:
            hint = "" if Path(source).exists() else "; its speed can be measured without it, with --random-weights"
            raise InputError(f"{error}{hint}") from error
        denoiser = getattr(pipeline, family.denoiser_name).requires_grad_(False)
        return Candidate(name, denoiser, pipeline, "checkpoint", family)

    def load_config(self, source: str) -> Candidate:
        """The student of the config `source`, or its teacher for `CONFIG:teacher`. Raises InputError where it has none."""
        config, is_teacher = load_config(source.removesuffix(TEACHER)), source.endswith(TEACHER)
        with planning():
            plan = plan_of(config)
            if plan is None:
                raise InputError(f"{source}: a {config.model['type']} has neither teacher nor student")
            if is_teacher and "teacher" not in config.model:
                raise InputError(f"{source}: a {config.model['type']} has no teacher; leave out {TEACHER}")
            family = plan.family
            on_disk = None if self.random_weights else self.on_disk(config, plan, is_teacher)
            if on_disk:
                denoiser = self.read(family.denoiser_class, *on_disk)
            else:
                shape = family.denoiser_config if is_teacher else plan.config
                denoiser = self.random("diffusers", family.denoiser_class.__name__, shape)
            if family.checkpoint.is_folder and not self.random_weights and self.pipelines:
                pipeline = family.assemble(family.load(self.dtype), denoiser).to(self.device)
            else:
                pipeline = self.surround(family, denoiser)
        origin = config.model.get("teacher") or config.model.get("base")
        teacher = str(origin.get("denoiser") or family.checkpoint.name)
        name = Path(teacher.removeprefix(PACKAGED)).name if is_teacher else short_name(config.filename)
        return Candidate(name, denoiser, pipeline, "checkpoint" if on_disk else "random", family)

    def random(self, library: str, class_name: str, config: Mapping) -> nn.Module:
        """A model of `library` with random weights, frozen, in this loader's dtype and on its device."""
        return random_model(library, class_name, config, self.dtype, self.device)

    def surround(self, family: Family, denoiser: nn.Module) -> diffusers.DiffusionPipeline | None:
        """A pipeline with random weights around `denoiser`; None if this loader loads denoisers alone."""
        if not self.pipelines:
            return None
        own = {family.denoiser_name: denoiser}
        return random_pipeline(family.checkpoint, self.dtype, self.device, own, family.vae)

    def on_disk(self, config: Config, plan: Plan, is_teacher: bool) -> tuple[Checkpoint, str] | None:
        """Where the weights of a config's denoiser are, as (checkpoint, subfolder); None where they are not on this disk."""
        family = plan.family
        if is_teacher:
            has_own = family.checkpoint.is_folder and not config.get("stages") and family.denoiser is None
            return (family.checkpoint, family.denoiser_name) if has_own else None
        exported = Path(last_stage(config).work_dir, family.denoiser_name)
        return (Checkpoint(str(exported), "the run's student"), "") if exported.is_dir() else None

    def read(self, model_class: type, checkpoint: Checkpoint, subfolder: str = "") -> nn.Module:
        """The model of `checkpoint` with its own weights, frozen, in this loader's dtype and on its device."""
        model = self.quietly(
            checkpoint.load,
            model_class.from_pretrained,
            subfolder=subfolder or None,
            torch_dtype=self.dtype,
            **without_pickles(),
        )
        return freeze(model, self.dtype).to(self.device)

    @staticmethod
    def quietly(load: Callable, *args, **options):
        """What `load` returns, without a warning of how the dtype is passed.

        That is as `torch_dtype`, the older of its two names, which all supported versions know.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            return load(*args, **options)


def plan_of(config: Config) -> Plan | None:
    """The plan of a config's student, of its last stage where it has stages; None where the model is no Distiller."""
    return plan_stages(stage_configs(config))[-1] if config.get("stages") else check_model(config.model)


def load_all(loader: Loader, sources: Sequence[str]) -> list[Candidate]:
    """A candidate for every source, each with a name of its own."""
    candidates = [loader.load(source) for source in sources]
    repeated = {name for name, count in Counter(candidate.name for candidate in candidates).items() if count > 1}
    for number, candidate in enumerate(candidates, 1):
        if candidate.name in repeated:
            candidate.name += f" ({number})"
    return candidates
