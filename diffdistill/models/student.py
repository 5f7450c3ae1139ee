"""What a config decides about a student before any weight is loaded."""

import inspect
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.reading import check_predicts
from diffdistill.losses.base import TEACHER
from diffdistill.models.adapters import adapter_tree
from diffdistill.models.critics import Critics
from diffdistill.models.frozen import freeze_layers
from diffdistill.models.plan import Plan
from diffdistill.registry import MODELS, build_part
from diffdistill.students.cut import (
    build,
    build_on_meta,
    first_difference,
    module_lists,
    plan_student,
    state_on_meta,
)
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import derive_pairs, recovering
from diffdistill.students.quantization import Quantization
from diffdistill.students.recompute import Choice
from diffdistill.students.weights import FIRST_WEIGHTS, check_first_weights, find_sources, make_student


class StudentPlan(Plan):
    """What a config decides about a student before any weight is loaded: its config, layer map and feature pairs.

    Args:
        teacher, losses, student, method, feature_pairs: the keys of that name of `Distiller`.
        gradient_checkpointing, dtype, sampling: see `DiffusionModel`.
    """

    sections: ClassVar = {
        **Plan.sections,
        "student": (
            "keep",
            "checkpoint",
            "fresh",
            "first_weights",
            "frozen",
            "prediction_type",
            "guidance_embedding",
            "adapter",
            "quantize",
        ),
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
        gradient_checkpointing: Choice = False,
        dtype: str = "float32",
        sampling: Mapping | None = None,
    ):
        student, family = student or {}, build_part(MODELS, teacher, "model.teacher")
        denoiser, theirs = family.denoiser_class, family.denoiser_config
        self.keep = dict(student.get("keep") or {})
        self.fresh, self.frozen = (list(student.get(key) or []) for key in ("fresh", "frozen"))
        self.quantization = Quantization(**student.get("quantize") or {})
        self.first_weights = student.get("first_weights") or FIRST_WEIGHTS[0]
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
            if not student.get("prediction_type"):
                check_predicts(self.checkpoint, self.noise_schedule, "model.student.prediction_type")
        else:
            weights = (state_on_meta(denoiser, each) for each in (config, theirs))
            find_sources(*weights, self.layers, self.fresh)
        check_first_weights(self.first_weights, checkpoint)
        if adapter:
            self.check_adapter()
        self.check_losses()
        self.method.check(self)
        if self.losses:
            self.critics = self.build_critics()

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

    def check_losses(self) -> None:
        """Raise InputError for a loss that the method leaves nothing to compare, and for a method that finds no layer."""
        if self.method.predicts or not self.losses:
            return
        method = type(self.method).__name__
        for name, loss in self.losses.items():
            if not loss.needs_features:
                raise InputError(
                    f"model.losses.{name}: {type(loss).__name__} compares predictions, and {method} runs single layers,"
                    f" which predict nothing; set model.losses.{name}=None"
                )
        if not recovering(self.pairs, self.layers):
            raise InputError(
                f"model.method: {method} finds no layer behind which one was dropped; model.student.keep says which"
            )

    def component_on_meta(self, name: str) -> nn.Module:
        if not (self.frozen or self.quantization):
            return super().component_on_meta(name)
        with torch.device("meta"):  # one of its own: others share that of `build_on_meta`
            return self.prepare(build(self.family.denoiser_class, self.config))

    def prepare(self, student: nn.Module) -> nn.Module:
        """Freeze and quantise the layers of the student that the config names; returns it."""
        return self.quantization.apply(freeze_layers(student, self.frozen))

    def build_critics(self) -> Critics:
        """The critics on the meta device; raises InputError for an adapter of a teacher that is not the student's base."""
        denoiser, theirs, critics = self.family.denoiser_class, self.family.denoiser_config, Critics()
        described = self.describe_critics(build_on_meta(denoiser, theirs))
        self.check_runs([name for name, (_, where) in described.items() if where == "model.method"])
        for name, (critic, where) in described.items():
            if isinstance(critic, nn.Module):
                critics[name] = critic.requires_grad_(True)
                continue
            if not self.student_is_teacher:
                raise InputError(
                    f"{where}.{name} is an adapter of the teacher, which is not the student's base: {self.why_not_teacher};"
                    f" leave {where}.{name} out, for a full copy of the teacher"
                )
            with torch.device("meta"):
                critics[name] = adapter_tree(build(denoiser, theirs), critic, f"{where}.{name}", name)
        return critics

    def check_runs(self, known: Sequence[str]) -> None:
        """Raise InputError for a loss that runs a network that is neither the teacher nor `known`, the method's."""
        for name, loss in self.losses.items():
            for critic in loss.runs:
                if critic not in (TEACHER, *known):
                    trains = f"trains {', '.join(known)}" if known else "trains none"
                    raise InputError(
                        f"model.losses.{name}.network={critic!r}: that is 'teacher' or a network that the method trains, and"
                        f" {type(self.method).__name__} {trains}"
                    )

    @property
    def why_not_teacher(self) -> str:
        """Says why the student is not the teacher with an adapter."""
        if not self.adapters:
            return "the student is trained whole, without model.student.adapter"
        return "the student has a checkpoint of its own" if self.checkpoint else "the student is a cut"

    def check_adapter(self) -> None:
        """Raise InputError for what an adapter cannot do: everything else in the student is frozen."""
        checked = {key: getattr(self, key) for key in ("fresh", "frozen", "guidance_embedding")}
        checked["quantize"] = self.quantization.bits
        for key, value in checked.items():
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
            student = make_student(teacher, self.keep, self.fresh, self.first_weights)[0]
        else:
            student = self.family.load_student(self.checkpoint)
        rules = rules_of(type(student))
        if self.guidance_embedding and not rules.embeds_guidance(student.config):
            rules.add_guidance(student, self.guidance_embedding)
        return self.prepare(student)

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
