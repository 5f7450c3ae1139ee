"""What is compared: a pipeline or denoiser, from a folder, the hub or a config, with its weights or with random ones."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
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
from diffdistill.families.checkpoint import PACKAGED, Checkpoint
from diffdistill.families.loading import freeze
from diffdistill.models.plan import Plan
from diffdistill.students.denoisers.rules import RULES, rules_of

TEACHER = ":teacher"
PLACES = ("unet", "transformer")  # where a pipeline keeps its denoiser
LATENT_PIXELS = 8  # of a denoiser alone, without a VAE that tells: all published families have this


@dataclass
class Candidate:
    """A denoiser to measure, with the pipeline around it where one is known."""

    name: str
    denoiser: nn.Module
    pipeline: diffusers.DiffusionPipeline | None
    weights: str  # "checkpoint" or "random"
    latent_pixels: int = LATENT_PIXELS  # of a picture's side, to one of the latents'


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
        name = path.parent.name if path.name in PLACES else path.name
        if self.random_weights:
            return Candidate(name, self.random("diffusers", class_name, config), None, "random")
        checkpoint.check_components([""])
        return Candidate(name, self.read(getattr(diffusers, class_name), checkpoint), None, "checkpoint")

    def load_pipeline(self, source: str) -> Candidate:
        """The denoiser of the pipeline `source` (a folder, a packaged pipeline or a hub name), with the pipeline around it.

        Raises InputError for a pipeline without a denoiser of a known kind, and for one that cannot be read.
        """
        name = source.removeprefix(PACKAGED).rstrip("/").rsplit("/", 1)[-1]
        if self.random_weights:
            with planning():
                checkpoint = Checkpoint(source, "source")
                index, pixels = checkpoint.read_json("model_index.json"), latent_pixels(checkpoint)
                place = next((place for place in PLACES if place in index), None)
                if place is None:
                    raise InputError(f"source={source}: a {index['_class_name']}, which has no {' or '.join(PLACES)}")
                denoiser = self.random(*index[place], checkpoint.read_json(f"{place}/config.json"))
                return Candidate(name, denoiser, self.surround(checkpoint, place, denoiser), "random", pixels)
        else:
            load = diffusers.DiffusionPipeline.from_pretrained
            try:
                pipeline = self.quietly(Checkpoint(source, "source"), load).to(self.device)
            except InputError as error:
                hint = "" if Path(source).exists() else "; its speed can be measured without it, with --random-weights"
                raise InputError(f"{error}{hint}") from error
        denoiser = next((getattr(pipeline, place) for place in PLACES if hasattr(pipeline, place)), None)
        rules_of(type(denoiser))
        denoiser.requires_grad_(False)
        pixels = pipeline.vae_scale_factor
        return Candidate(name, denoiser, pipeline if self.pipelines else None, "checkpoint", pixels)

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
                pipeline = self.surround(family.checkpoint, family.denoiser_name, denoiser, family.vae)
            pixels = latent_pixels(family.checkpoint)
        origin = config.model.get("teacher") or config.model.get("base")
        teacher = str(origin.get("denoiser") or family.checkpoint.name)
        name = Path(teacher.removeprefix(PACKAGED)).name if is_teacher else short_name(config.filename)
        return Candidate(name, denoiser, pipeline, "checkpoint" if on_disk else "random", pixels)

    def random(self, library: str, class_name: str, config: Mapping) -> nn.Module:
        """A model of `library` with random weights, frozen, in this loader's dtype and on its device."""
        return random_model(library, class_name, config, self.dtype, self.device)

    def surround(
        self, checkpoint: Checkpoint, place: str, denoiser: nn.Module, vae: Checkpoint | None = None
    ) -> diffusers.DiffusionPipeline | None:
        """A pipeline with random weights around `denoiser`; None if this loader loads denoisers alone."""
        return random_pipeline(checkpoint, self.dtype, self.device, {place: denoiser}, vae) if self.pipelines else None

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
        model = self.quietly(checkpoint, model_class.from_pretrained, subfolder=subfolder or None)
        return freeze(model, self.dtype).to(self.device)

    def quietly(self, checkpoint: Checkpoint, load, **options):
        """What `load` returns for `checkpoint` in this loader's dtype, without a warning of how the dtype is passed.

        It is passed as `torch_dtype`, the older of its two names, which all supported versions know.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            return checkpoint.load(load, torch_dtype=self.dtype, **options)


def latent_pixels(checkpoint: Checkpoint) -> int:
    """How many pixels wide one element of the latents is: the VAE halves a picture between its stages."""
    return 2 ** (len(checkpoint.read_json("vae/config.json")["block_out_channels"]) - 1)


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
