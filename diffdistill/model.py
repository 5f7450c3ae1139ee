"""What every model that MMEngine trains here has in common: encode a batch, let the method compute a step, score it."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import ClassVar

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin
from mmengine.model import BaseModel
from torch import Tensor, nn

from diffdistill.adapters import inject, parameter_tree, train_adapters, trainable
from diffdistill.errors import InputError
from diffdistill.families.base import Family, freeze
from diffdistill.frozen import Frozen
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS
from diffdistill.step import Step
from diffdistill.student import build_on_meta

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def compute_dtype(name: str) -> torch.dtype:
    """The dtype that `model.dtype` names."""
    if name not in DTYPES:
        raise InputError(f"model.dtype={name!r} is unknown; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def scheduler_class(name: str) -> type:
    """The diffusers scheduler that `model.sampling.scheduler` names."""
    known = [other for other in dir(diffusers) if other.endswith("Scheduler")]
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.0))
        raise InputError(f"model.sampling.scheduler={name!r} is no scheduler of diffusers; the nearest: {near}")
    return getattr(diffusers, name)


class Plan:
    """What a config decides about a model before any weight is loaded.

    Args:
        family: of the pipeline.
        config: of the denoiser that is trained, in diffusers' terms.
        losses, method: the keys of that name of the model.
        components: what is trained: name of the pipeline's model -> the config of its adapter and the key that holds it;
            without a config the model is trained whole.

    Attributes:
        noise_schedule: with the prediction type of what is trained.
        whole, adapters: the components of both kinds.
        on_meta: what is trained, without its values.
    """

    needs_teacher = False
    student_is_teacher = False  # with its adapter off
    pairs: Sequence[tuple[str, str]] = ()
    sections: ClassVar[dict[str, Collection[str] | None]] = {}  # keys of the model that are dicts -> what these may hold

    def __init__(
        self,
        family: Family,
        config: Mapping,
        losses: Mapping[str, dict | None],
        method: Mapping | None,
        components: Mapping[str, tuple[Mapping | None, str]],
    ):
        self.family, self.config, self.noise_schedule = family, config, family.noise_schedule
        self.method = MODELS.build(method or dict(type="DenoisingKD"))
        self.losses = {name: MODELS.build(loss) for name, loss in losses.items() if loss is not None}
        self.whole = [name for name, (adapter, _) in components.items() if not adapter]
        self.adapters = {name: (adapter, where) for name, (adapter, where) in components.items() if adapter}
        self.on_meta = nn.ModuleDict({name: self.component_on_meta(name) for name in components})

    def load_denoisers(self) -> tuple[nn.Module, nn.Module | None]:
        """The student in fp32, and its teacher where one is needed; with an adapter, both may be one."""
        raise NotImplementedError

    def component_on_meta(self, name: str) -> nn.Module:
        """What is trained of the component `name`, without its values."""
        if name == self.family.denoiser_name:
            model = build_on_meta(self.family.denoiser_class, self.config)
        else:
            model = self.family.build_on_meta(name)
        if name not in self.adapters:
            return model
        with torch.device("meta"):
            return adapter_tree(copy.deepcopy(model), *self.adapters[name])

    def trained_state(self) -> dict[str, Tensor]:
        """Names and shapes of what a checkpoint of the run holds, as tensors on the meta device."""
        return nn.ModuleDict(dict(trained=self.on_meta)).state_dict()


def adapter_tree(model: nn.Module, adapter: Mapping, where: str) -> nn.Module:
    """Put an adapter into `model`; gives modules that hold the adapter's weights alone."""
    return parameter_tree(trainable(inject(model, adapter, where)))


class DiffusionModel(BaseModel):
    """A denoiser, the `student`, that is trained by `method` and scored by `losses`, inside a pipeline.

    What is trained stands in the module tree, under `trained.<component>`: a whole model in fp32, or the weights of its
    adapter. Everything else is in `frozen`, in the compute dtype.

    Args:
        plan: what the rest of the config decides.
        gradient_checkpointing: recompute the student's activations in backward, to save memory.
        dtype: compute dtype. Frozen parts are stored in it; what is trained stays in fp32 and runs under autocast.
        sampling: arguments of the diffusers pipeline's call for validation and sample grids; `scheduler` names a diffusers
            scheduler class to sample with instead of the checkpoint's, or is a dict of its `type` and changes to its config.
            A method that trains the student for a sampler of its own overrides them for the student (`Method.sampling`).
    """

    plan_class: type[Plan]
    pairs: Sequence[tuple[str, str]] = ()
    noun: str  # what logs and figures call it
    teacher: nn.Module | None = None
    average: nn.Module | None = None

    def __init__(
        self,
        plan: Plan,
        gradient_checkpointing: bool = False,
        dtype: str = "float32",
        sampling: dict | None = None,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor)
        self.dtype = compute_dtype(dtype)
        self.family, self.losses, self.method = plan.family, plan.losses, plan.method
        self.noise_schedule, self.layers = plan.noise_schedule, plan.layers
        self.sampling = dict(sampling or {})
        self.predict_with = "student"  # or "teacher", to validate it by the same protocol

        student, teacher = plan.load_denoisers()
        if gradient_checkpointing:
            student.enable_gradient_checkpointing()
        name = self.family.denoiser_name
        for denoiser in (teacher, student if name in plan.adapters else None):
            if denoiser is not None:
                freeze(denoiser, self.dtype)
        pipeline = self.family.assemble(self.family.load(self.dtype, plan.whole), teacher)
        models = {**pipeline.components, name: student}
        self.trained = nn.ModuleDict({name: models[name] for name in plan.whole})
        for component, adapter in plan.adapters.items():
            self.trained[component] = adapter_tree(models[component], *adapter)
        self.frozen = Frozen(pipeline, student if name in plan.adapters else None)
        self.adapted = list(plan.adapters)

    @property
    def student(self) -> nn.Module:
        """The denoiser that is trained, or whose adapter is."""
        return self.trained[self.family.denoiser_name] if self.frozen.student is None else self.frozen.student

    def component(self, name: str) -> nn.Module:
        """The model of the pipeline with that name, with its adapter if it has one."""
        return self.student if name == self.family.denoiser_name else getattr(self.frozen.pipeline, name)

    @contextmanager
    def denoiser(self, teacher: bool = False) -> Iterator[nn.Module]:
        """The student, or the teacher, ready to be called inside the block."""
        yield self.student

    @property
    def teacher_schedule(self) -> NoiseSchedule:
        """The noise schedule with the teacher's prediction type; `noise_schedule` has the student's."""
        return self.family.noise_schedule

    def autocast(self) -> torch.autocast:
        device = next(self.student.parameters()).device.type
        return torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def train(self, mode: bool = True) -> "DiffusionModel":
        """What is trained follows `mode`, and so does dropout inside adapters; what is frozen stays in eval mode."""
        super().train(mode)
        for name in self.adapted:
            train_adapters(self.component(name), mode)
        return self

    def forward(self, mode: str = "loss", **batch) -> dict[str, Tensor] | list[dict]:
        """`loss`: the weighted terms of one step. `predict`: a picture for every caption, as a list of records."""
        if mode == "predict":
            pictures = self.sample(batch["caption"], batch["seed"], teacher=self.predict_with == "teacher")
            rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
            return [dict(row, image=picture) for row, picture in zip(rows, pictures, strict=True)]
        step = self.method(self, *self.encode(batch))
        step.sample_weights = batch.get("weight")
        return {f"loss_{name}": loss(step) for name, loss in self.losses.items()}

    def encode(self, batch: dict) -> tuple[Tensor, dict]:
        """Latents (B, C, H, W) in fp32 and the denoiser's conditioning of a batch."""
        pipeline = self.frozen.pipeline
        latents = self.family.encode_pictures(pipeline, batch["pixel_values"])
        with self.autocast() if len(self.trained) > 1 else nullcontext():  # a text encoder is trained as well
            return latents, self.family.encode_captions(pipeline, batch)

    def run(self, noisy: Tensor, timesteps: Tensor, condition: dict, target: Tensor) -> Step:
        """Run the student; for methods to call."""
        with self.autocast():
            prediction = self.student(noisy, timesteps, **condition, return_dict=False)[0]
        return Step(noisy, timesteps, prediction, target, self.noise_schedule)

    def exported_scheduler(self) -> SchedulerMixin:
        """The scheduler of a pipeline around the student: the one that it was trained for, or else the teacher's."""
        own = self.method.sampling.get("scheduler")
        return self.build_scheduler(own, self.noise_schedule)

    def build_scheduler(self, chosen: str | dict | None, schedule: NoiseSchedule) -> SchedulerMixin:
        base = self.frozen.pipeline.scheduler
        chosen = dict(type=chosen) if isinstance(chosen, str) else dict(chosen or dict(type=type(base).__name__))
        changes = {"prediction_type": schedule.prediction_type, **chosen}
        return scheduler_class(changes.pop("type")).from_config(base.config, **changes)

    def sample_with(self, **options) -> None:
        """Sample teacher and student with these options from now on, over those of `sampling` and of the method."""
        self.sampling.update(options)
        self.method.sampling = {**self.method.sampling, **options}

    def scheduler(self, teacher: bool = False) -> tuple[SchedulerMixin, dict]:
        """The diffusers scheduler to sample the student (or the teacher) with, and the other arguments of the pipeline."""
        options = dict(self.sampling) if teacher else {**self.sampling, **self.method.sampling}
        schedule = self.teacher_schedule if teacher else self.noise_schedule
        return self.build_scheduler(options.pop("scheduler", None), schedule), options

    @torch.no_grad()
    def sample(self, captions: Sequence[str], seeds: Sequence[int], teacher: bool = False) -> np.ndarray:
        """Pictures (B, H, W, 3), uint8, of the student or the teacher; the initial noise of each follows from its seed."""
        return self.family.decode(self.frozen.pipeline, self.sample_latents(captions, seeds, teacher))

    @torch.no_grad()
    def sample_latents(self, captions: Sequence[str], seeds: Sequence[int], teacher: bool = False) -> Tensor:
        """The scaled latents (B, C, h, w) of the pictures that `sample` gives."""
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        training = self.training
        self.eval()
        with self.denoiser(teacher) as denoiser, self.autocast():
            pipeline = self.family.assemble(self.frozen.pipeline, denoiser)
            pipeline.scheduler, options = self.scheduler(teacher)
            latents = pipeline(prompt=list(captions), generator=generators, output_type="latent", **options).images
        self.train(training)
        return latents
