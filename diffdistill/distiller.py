"""The model that MMEngine trains: a student in the module tree, its teacher and the pipeline frozen beside it."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin
from mmengine.model import BaseModel
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.base import freeze
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.features import FeatureTaps, derive_pairs
from diffdistill.frozen import Frozen
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS
from diffdistill.step import Step
from diffdistill.student import build_on_meta, embed_guidance, find_sources, make_student, plan_student

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


class StudentPlan:
    """What a config decides about a student before any weight is loaded: its config, layer map and feature pairs.

    Args:
        teacher, student, feature_pairs, losses, method: the keys of that name of `Distiller`.
    """

    def __init__(
        self,
        teacher: dict,
        student: dict,
        feature_pairs: dict | None,
        losses: Mapping[str, dict],
        method: dict | None = None,
    ):
        self.family = MODELS.build(teacher)
        self.losses = {name: MODELS.build(loss) for name, loss in losses.items() if loss is not None}
        self.method = MODELS.build(method or dict(type="DenoisingKD"))
        self.keep = dict(student.get("keep") or {})
        self.fresh = list(student.get("fresh") or [])
        self.noise_schedule = self.family.noise_schedule
        if prediction_type := student.get("prediction_type"):
            self.noise_schedule = self.noise_schedule.predicting(prediction_type)
        denoiser, config = self.family.denoiser_class, self.family.denoiser_config
        self.config, self.layers = plan_student(denoiser, config, self.keep)
        self.guidance_embedding = student.get("guidance_embedding")
        # Without a loss nothing is trained: such a model is there to be sampled or exported.
        needs = (self.method.needs_teacher, *(loss.needs_teacher for loss in self.losses.values()))
        self.needs_teacher = bool(self.losses) and any(needs)
        self.pairs: list[tuple[str, str]] = []
        if any(loss.needs_features for loss in self.losses.values()):
            self.pairs = derive_pairs(denoiser, self.config, config, self.layers, **(feature_pairs or {}))
        checkpoint = student.get("checkpoint")
        self.checkpoint = checkpoint and Checkpoint(checkpoint, "model.student.checkpoint")
        if self.checkpoint:
            self.check_checkpoint()
        else:
            weights = (build_on_meta(denoiser, each).state_dict() for each in (self.config, config))
            find_sources(*weights, self.layers, self.fresh)
        if self.guidance_embedding:
            self.config["time_cond_proj_dim"] = self.check_guidance_embedding()
        self.method.check(self)

    def check_guidance_embedding(self) -> int:
        """Raise InputError for a width that diffusers could not build, or that is not the one the teacher has."""
        width, there = self.guidance_embedding, self.config.get("time_cond_proj_dim")
        if not isinstance(width, int) or width < 4 or width % 2:
            raise InputError(f"model.student.guidance_embedding={width!r}: give an even number of 4 or more, such as 256")
        if there not in (None, width):
            raise InputError(f"model.student.guidance_embedding={width}: the teacher has one that is {there} wide; use that")
        return width

    def check_checkpoint(self) -> None:
        """Raise InputError unless the student's own checkpoint is the student that `keep` describes."""
        denoiser, config = self.family.denoiser_class, self.family.read_student_config(self.checkpoint)
        planned = dict(self.config)
        if self.guidance_embedding:  # a checkpoint may have it already
            planned["time_cond_proj_dim"] = config.get("time_cond_proj_dim")
        planned, found = (build_on_meta(denoiser, each).state_dict() for each in (planned, config))
        for name in sorted(planned.keys() | found.keys()):
            shapes = [tuple(weights[name].shape) if name in weights else "nothing" for weights in (planned, found)]
            if shapes[0] != shapes[1]:
                raise InputError(
                    f"model.student.checkpoint={self.checkpoint.name} is not the student that model.student.keep describes:"
                    f" {name} should be {shapes[0]} and is {shapes[1]}"
                )

    def load_student(self, teacher: nn.Module | None) -> nn.Module:
        """The student in fp32, from its own checkpoint or with the kept layers of `teacher`."""
        if self.checkpoint is None:
            student = make_student(teacher, self.keep, self.fresh)[0]
        else:
            student = self.family.load_student(self.checkpoint)
        if self.guidance_embedding and student.config.time_cond_proj_dim is None:
            embed_guidance(student, self.guidance_embedding)
        return student


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains `student` by `method`, scored by `losses`, against the frozen denoiser of `teacher`.

    Where neither the method nor a loss needs a teacher, and where there is no loss, the teacher's denoiser only gives the
    student's first weights and is then let go.

    Args:
        teacher: the family and checkpoint, e.g. `dict(type="StableDiffusionXL", checkpoint=...)`.
        student: `keep` (which layers of the teacher stay; {} keeps all), `checkpoint` (pretrained weights of the student
            instead of the teacher's), `fresh` (patterns of tensors that start from random values), `prediction_type`
            (instead of the teacher's), `guidance_embedding` (the width of an embedding of the guidance scale).
        losses: name -> loss, or None for none; "task" is logged as `loss_task`. Values are logged weighted, so they add up
            to `loss`.
        method: what one step computes.
        feature_pairs: `level`, `rule`, `pairs` of `features.derive_pairs`.
        gradient_checkpointing: recompute the student's activations in backward, to save memory.
        dtype: compute dtype. Frozen parts are stored in it; the student stays in fp32 and runs under autocast.
        sampling: arguments of the diffusers pipeline's call for validation and sample grids; `scheduler` names a diffusers
            scheduler class to sample with instead of the checkpoint's, or is a dict of its `type` and changes to its config.
            A method that trains the student for a sampler of its own overrides them for the student (`Method.sampling`).
    """

    def __init__(
        self,
        teacher: dict,
        losses: Mapping[str, dict],
        student: dict | None = None,
        method: dict | None = None,
        feature_pairs: dict | None = None,
        gradient_checkpointing: bool = False,
        dtype: str = "float32",
        sampling: dict | None = None,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor)
        self.dtype = compute_dtype(dtype)
        plan = StudentPlan(teacher, student or {}, feature_pairs, losses, method)
        self.family, self.losses, self.pairs, self.method = plan.family, plan.losses, plan.pairs, plan.method
        self.noise_schedule = plan.noise_schedule
        self.sampling = dict(sampling or {})
        self.predict_with = "student"  # or "teacher", to validate it by the same protocol
        self.get_average = lambda: None  # for TargetEMAHook

        denoiser = self.family.load_denoiser() if plan.needs_teacher or plan.checkpoint is None else None
        self.student = plan.load_student(denoiser)
        if gradient_checkpointing:
            self.student.enable_gradient_checkpointing()
        if not plan.needs_teacher:
            denoiser = None
        pipeline = self.family.load(self.dtype)
        if denoiser is not None:
            freeze(denoiser, self.dtype)
        self.frozen = Frozen(self.family.assemble(pipeline, denoiser))

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen denoiser, or None where nothing needs it."""
        return getattr(self.frozen.pipeline, self.family.denoiser_name)

    @property
    def average(self) -> nn.Module | None:
        """The moving average of the student, if `TargetEMAHook` keeps one."""
        return self.get_average()

    @property
    def teacher_schedule(self) -> NoiseSchedule:
        """The noise schedule with the teacher's prediction type; `noise_schedule` has the student's."""
        return self.family.noise_schedule

    def autocast(self) -> torch.autocast:
        device = next(self.student.parameters()).device.type
        return torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def forward(self, mode: str = "loss", **batch) -> dict[str, Tensor] | list[dict]:
        """`loss`: the weighted terms of one step. `predict`: a picture for every caption, as a list of records."""
        if mode == "predict":
            pictures = self.sample(batch["caption"], batch["seed"], teacher=self.predict_with == "teacher")
            rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
            return [dict(row, image=picture) for row, picture in zip(rows, pictures, strict=True)]
        step = self.method(self, *self.encode(batch))
        return {f"loss_{name}": loss(step) for name, loss in self.losses.items()}

    def encode(self, batch: dict) -> tuple[Tensor, dict]:
        """Latents (B, C, H, W) in fp32 and the denoiser's conditioning of a batch."""
        pipeline = self.frozen.pipeline
        return self.family.encode_pictures(pipeline, batch["pixel_values"]), self.family.encode_captions(pipeline, batch)

    def run(self, noisy: Tensor, timesteps: Tensor, condition: dict, target: Tensor) -> Step:
        """Run the student, and the teacher if there is one, on the same input; for methods to call."""
        prediction, theirs = None, {}
        if self.teacher is not None:
            prediction, theirs = self.predict_teacher(noisy, timesteps, condition)
            if self.teacher_schedule.prediction_type != self.noise_schedule.prediction_type:
                sample = self.teacher_schedule.to_sample(prediction.float(), noisy, timesteps)
                prediction = self.noise_schedule.from_sample(sample, noisy, timesteps)
        return self.take_step(noisy, timesteps, condition, target, prediction, theirs)

    def take_step(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        condition: dict,
        target: Tensor,
        teacher_prediction: Tensor | None = None,
        teacher_features: Mapping[str, Tensor] | None = None,
    ) -> Step:
        """Run the student beside what its teacher has said; for methods that ask the teacher for more than a prediction."""
        with FeatureTaps(self.student, [ours for ours, _ in self.pairs]).record() as ours, self.autocast():
            prediction = self.student(noisy, timesteps, **condition, return_dict=False)[0]
        pairs = self.pairs if teacher_features else []
        features = {f"{student} <- {teacher}": (ours[student], teacher_features[teacher]) for student, teacher in pairs}
        return Step(
            noisy, timesteps, prediction, target, self.noise_schedule,
            teacher_prediction=teacher_prediction, features=features,
        )  # fmt: skip

    @torch.no_grad()
    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        """What the student, or its average, predicts, in fp32 and without a gradient."""
        with self.autocast():
            return denoiser(noisy, timesteps, **condition, return_dict=False)[0].float()

    @torch.no_grad()
    def predict_teacher(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's prediction, of its own prediction type, and features, in the compute dtype."""
        with FeatureTaps(self.teacher, [theirs for _, theirs in self.pairs]).record() as features:
            prediction = self.teacher(noisy.to(self.dtype), timesteps, **condition, return_dict=False)[0]
        return prediction, features

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
        denoiser = self.teacher if teacher else self.student
        pipeline = self.family.assemble(self.frozen.pipeline, denoiser)
        pipeline.scheduler, options = self.scheduler(teacher)
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        training = denoiser.training
        denoiser.eval()
        with self.autocast():
            latents = pipeline(prompt=list(captions), generator=generators, output_type="latent", **options).images
        denoiser.train(training)
        return self.family.decode(pipeline, latents)
