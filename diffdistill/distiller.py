"""The model that MMEngine trains: a student in the module tree, its teacher and the pipeline frozen beside it."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import diffusers
import numpy as np
import torch
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
from diffdistill.student import build_on_meta, find_sources, make_student, plan_student

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
        teacher, student, feature_pairs, losses: the keys of that name of `Distiller`.
    """

    def __init__(self, teacher: dict, student: dict, feature_pairs: dict | None, losses: Mapping[str, dict]):
        self.family = MODELS.build(teacher)
        self.losses = {name: MODELS.build(loss) for name, loss in losses.items() if loss is not None}
        self.keep = dict(student.get("keep") or {})
        self.fresh = list(student.get("fresh") or [])
        denoiser, config = self.family.denoiser_class, self.family.denoiser_config
        self.config, self.layers = plan_student(denoiser, config, self.keep)
        self.needs_teacher = any(loss.needs_teacher for loss in self.losses.values())
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

    def check_checkpoint(self) -> None:
        """Raise InputError unless the student's own checkpoint is the student that `keep` describes."""
        denoiser, config = self.family.denoiser_class, self.family.read_student_config(self.checkpoint)
        planned, found = (build_on_meta(denoiser, each).state_dict() for each in (self.config, config))
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
            return make_student(teacher, self.keep, self.fresh)[0]
        return self.family.load_student(self.checkpoint)


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains `student` by `method`, scored by `losses`, against the frozen denoiser of `teacher`.

    Where no loss needs a teacher, its denoiser only gives the student's first weights and is then let go.

    Args:
        teacher: the family and checkpoint, e.g. `dict(type="StableDiffusionXL", checkpoint=...)`.
        student: `keep` (which layers of the teacher stay; {} keeps all), `checkpoint` (pretrained weights of the student
            instead of the teacher's), `fresh` (patterns of tensors that start from random values).
        losses: name -> loss, or None for none; "task" is logged as `loss_task`. Values are logged weighted, so they add up
            to `loss`.
        method: what one step computes.
        feature_pairs: `level`, `rule`, `pairs` of `features.derive_pairs`.
        gradient_checkpointing: recompute the student's activations in backward, to save memory.
        dtype: compute dtype. Frozen parts are stored in it; the student stays in fp32 and runs under autocast.
        sampling: arguments of the diffusers pipeline's call for validation and sample grids; `scheduler` names a diffusers
            scheduler class to sample with instead of the checkpoint's.
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
        plan = StudentPlan(teacher, student or {}, feature_pairs, losses)
        self.family, self.losses, self.pairs = plan.family, plan.losses, plan.pairs
        self.method = MODELS.build(method or dict(type="DenoisingKD"))
        self.sampling = dict(sampling or {})
        self.predict_with = "student"  # or "teacher", to validate it by the same protocol

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
        """The frozen denoiser, or None where no loss needs it."""
        return getattr(self.frozen.pipeline, self.family.denoiser_name)

    @property
    def noise_schedule(self) -> NoiseSchedule:
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
        """Run the student, and the teacher if a loss needs it, on the same input; for methods to call."""
        teacher_prediction, theirs = (
            self.run_teacher(noisy, timesteps, condition) if self.teacher is not None else (None, {})
        )
        with FeatureTaps(self.student, [ours for ours, _ in self.pairs]).record() as ours, self.autocast():
            prediction = self.student(noisy, timesteps, **condition, return_dict=False)[0]
        features = {f"{student} <- {teacher}": (ours[student], theirs[teacher]) for student, teacher in self.pairs}
        return Step(
            noisy, timesteps, prediction, target, self.noise_schedule,
            teacher_prediction=teacher_prediction, features=features,
        )  # fmt: skip

    @torch.no_grad()
    def run_teacher(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's prediction and features, in the compute dtype."""
        with FeatureTaps(self.teacher, [theirs for _, theirs in self.pairs]).record() as features:
            prediction = self.teacher(noisy.to(self.dtype), timesteps, **condition, return_dict=False)[0]
        return prediction, features

    @torch.no_grad()
    def sample(self, captions: Sequence[str], seeds: Sequence[int], teacher: bool = False) -> np.ndarray:
        """Pictures (B, H, W, 3), uint8, of the student or the teacher; the initial noise of each follows from its seed."""
        options = dict(self.sampling)
        denoiser = self.teacher if teacher else self.student
        pipeline = self.family.assemble(self.frozen.pipeline, denoiser)
        if scheduler := options.pop("scheduler", None):
            pipeline.scheduler = scheduler_class(scheduler).from_config(pipeline.scheduler.config)
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        training = denoiser.training
        denoiser.eval()
        with self.autocast():
            latents = pipeline(prompt=list(captions), generator=generators, output_type="latent", **options).images
        denoiser.train(training)
        return self.family.decode(pipeline, latents)
