"""Distillation: a student that is trained, its teacher frozen beside it."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.methods.base import Features
from diffdistill.models.adapters import adapters_off
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step
from diffdistill.students.cut import (
    build_on_meta,
    find_sources,
    first_difference,
    make_student,
    module_lists,
    plan_student,
    state_on_meta,
)
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import FeatureTaps, derive_pairs


class StudentPlan(Plan):
    """What a config decides about a student before any weight is loaded: its config, layer map and feature pairs.

    Args:
        teacher, losses, student, method, feature_pairs: the keys of that name of `Distiller`.
        gradient_checkpointing, dtype, sampling: see `DiffusionModel`.
    """

    sections: ClassVar = {
        **Plan.sections,
        "student": ("keep", "checkpoint", "fresh", "prediction_type", "guidance_embedding", "adapter"),
        "student.keep": None,
        "feature_pairs": list(inspect.signature(derive_pairs).parameters)[4:],
    }

    def __init__(
        self,
        teacher: Mapping,
        losses: Mapping[str, dict | None],
        student: Mapping | None = None,
        method: Mapping | None = None,
        feature_pairs: Mapping | None = None,
        gradient_checkpointing: bool = False,
        dtype: str = "float32",
        sampling: Mapping | None = None,
    ):
        student, family = student or {}, build_part(MODELS, teacher, "model.teacher")
        denoiser, theirs = family.denoiser_class, family.denoiser_config
        self.keep = dict(student.get("keep") or {})
        self.fresh = list(student.get("fresh") or [])
        config, layers = plan_student(denoiser, theirs, self.keep)
        self.family, self.guidance_embedding = family, student.get("guidance_embedding")
        rules = rules_of(denoiser)
        whole = {**config, rules.guidance_key: self.check_guidance_embedding(config)} if self.guidance_embedding else config
        adapter = student.get("adapter")
        super().__init__(
            family,
            whole,
            layers,
            losses,
            method,
            {family.denoiser_name: (adapter, "model.student.adapter")},
            gradient_checkpointing,
            dtype,
            sampling,
            student.get("prediction_type"),
        )
        # Without a loss nothing is trained: such a model is there to be sampled or exported.
        needs = (self.method.needs_teacher, *(loss.needs_teacher for loss in self.losses.values()))
        self.needs_teacher = bool(self.losses) and any(needs)
        if any(loss.needs_features for loss in self.losses.values()):
            self.pairs = derive_pairs(denoiser, config, theirs, self.layers, **(feature_pairs or {}))
        checkpoint = student.get("checkpoint")
        self.checkpoint = checkpoint and Checkpoint(checkpoint, "model.student.checkpoint")
        if self.checkpoint:
            self.check_checkpoint()
        else:
            weights = (state_on_meta(denoiser, each) for each in (config, theirs))
            find_sources(*weights, self.layers, self.fresh)
        if adapter:
            self.check_adapter()
        self.method.check(self)

    def check_guidance_embedding(self, config: Mapping) -> int:
        """Raise InputError for a width that diffusers could not build, or that is not the one the teacher has."""
        rules, width = rules_of(self.family.denoiser_class), self.guidance_embedding
        if rules.add_guidance is None:
            known = "is told the guidance scale already" if rules.embeds_guidance(config) else "has no place for one"
            raise InputError(
                f"model.student.guidance_embedding={width}: a {self.family.denoiser_class.__name__} {known}; leave it out"
            )
        there = config.get(rules.guidance_key)
        if not isinstance(width, int) or width < 4 or width % 2:
            raise InputError(f"model.student.guidance_embedding={width!r}: give an even number of 4 or more, such as 256")
        if there not in (None, width):
            raise InputError(f"model.student.guidance_embedding={width}: the teacher has one that is {there} wide; use that")
        return width

    def check_adapter(self) -> None:
        """Raise InputError for what an adapter cannot do: everything else in the student is frozen."""
        for key, value in (("fresh", self.fresh), ("guidance_embedding", self.guidance_embedding)):
            if value:
                raise InputError(
                    f"model.student.{key}={value!r} would stay untrained: with model.student.adapter, that alone is trained;"
                    " leave one of them out"
                )
        if self.method.needs_average:
            raise InputError(
                f"model.method ({type(self.method).__name__}) compares with a moving average of the student, and an adapter"
                " has none; set model.method.target='student'"
            )

    def check_checkpoint(self) -> None:
        """Raise InputError unless the student's own checkpoint is the student that `keep` describes."""
        denoiser, config = self.family.denoiser_class, self.family.read_student_config(self.checkpoint)
        planned, key = dict(self.config), rules_of(denoiser).guidance_key
        if self.guidance_embedding:  # a checkpoint may have it already
            planned[key] = config.get(key)
        found, planned = (state_on_meta(denoiser, each) for each in (config, planned))
        if difference := first_difference(found, planned):
            raise InputError(
                f"model.student.checkpoint={self.checkpoint.name} is not the student that model.student.keep describes:"
                f" {difference}"
            )

    def load_student(self, teacher: nn.Module | None) -> nn.Module:
        """The student in fp32, from its own checkpoint or with the kept layers of `teacher`."""
        if self.checkpoint is None:
            student = make_student(teacher, self.keep, self.fresh)[0]
        else:
            student = self.family.load_student(self.checkpoint)
        rules = rules_of(type(student))
        if self.guidance_embedding and not rules.embeds_guidance(student.config):
            rules.add_guidance(student, self.guidance_embedding)
        return student

    @property
    def student_is_teacher(self) -> bool:
        """Whether the student is the teacher with an adapter, so that one model in memory can be both."""
        teacher = module_lists(build_on_meta(self.family.denoiser_class, self.family.denoiser_config))
        whole = all(len(indices) == teacher[path] for path, indices in self.layers.kept.items())
        return bool(self.adapters) and whole and not self.checkpoint

    def load_denoisers(self) -> tuple[nn.Module, nn.Module | None]:
        teacher = self.family.load_denoiser() if self.needs_teacher or self.checkpoint is None else None
        student = teacher if self.student_is_teacher else self.load_student(teacher)
        return student, teacher if self.needs_teacher else None


@MODELS.register_module()
class Distiller(DiffusionModel):
    """Trains `student` by `method`, scored by `losses`, against the frozen denoiser of `teacher`.

    Where neither the method nor a loss needs a teacher, and where there is no loss, the student's first weights are copied
    from the teacher's denoiser, which is then let go.

    Args:
        teacher: the family and checkpoint, e.g. `dict(type="StableDiffusionXL", checkpoint=...)`.
        student: `keep` (which layers of the teacher stay; {} keeps all), `checkpoint` (pretrained weights of the student
            instead of the teacher's), `fresh` (patterns of tensors that start from random values), `prediction_type`
            (instead of the teacher's), `guidance_embedding` (the width of an embedding of the guidance scale), `adapter` (a
            config of peft: the student is frozen and its adapter trained; with all layers kept, one model in memory is the
            student and, with the adapter off, the teacher).
        losses: name -> loss, or None for none; "task" is logged as `loss_task`. Values are logged weighted, so they add up
            to `loss`.
        feature_pairs: `level`, `rule`, `pairs` of `students.features.derive_pairs`.
        method, gradient_checkpointing, dtype, sampling: see `DiffusionModel`.
    """

    plan_class = StudentPlan
    distills = True
    noun = "student"

    def __init__(self, **config):
        super().__init__(**config)
        self.get_average = lambda: None  # for TargetEMAHook

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen denoiser, or None where nothing needs it. Call it inside `denoiser(teacher=True)`."""
        return getattr(self.frozen.pipeline, self.family.denoiser_name)

    @contextmanager
    def denoiser(self, teacher: bool = False) -> Iterator[nn.Module]:
        """The student, or the teacher; where both are one model with an adapter, that is off inside the teacher's block."""
        if teacher and self.teacher is self.student:
            with adapters_off(self.teacher):
                yield self.teacher
        else:
            yield self.teacher if teacher else self.student

    @property
    def average(self) -> nn.Module | None:
        """The moving average of the student, if `TargetEMAHook` keeps one."""
        return self.get_average()

    def take_compared_step(self, noisy: Tensor, timesteps: Tensor, condition: dict, target: Tensor) -> Step:
        """Run the student, and the teacher on the same input, where there is one."""
        prediction, theirs = None, {}
        if self.teacher is not None:
            prediction, theirs = self.predict_teacher(noisy, timesteps, condition)
            if self.teacher_schedule.prediction_type != self.noise_schedule.prediction_type:
                sample = self.teacher_schedule.to_sample(prediction.float(), noisy, timesteps)
                prediction = self.noise_schedule.from_sample(sample, noisy, timesteps)
        return self.take_step(noisy, timesteps, condition, target, prediction, theirs)

    @torch.no_grad()
    def predict_teacher(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> tuple[Tensor, Features]:
        """The teacher's prediction, of its own prediction type, and features, in the compute dtype."""
        layers = [theirs for _, theirs in self.pairs]
        with self.denoiser(teacher=True) as teacher, FeatureTaps(teacher, layers).record() as features:
            prediction = self.family.predict(teacher, noisy.to(self.dtype), timesteps, condition)
        return prediction, features
