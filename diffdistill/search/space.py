"""The space that is searched: the teacher, or what a keep list has left of it, and the cuts of that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from mmengine.config import Config
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.config.summary import frozen_parameters
from diffdistill.errors import InputError
from diffdistill.search.budget import cost_of
from diffdistill.search.bypass import removable
from diffdistill.students.cut import build_on_meta, module_lists, plan_student, resolve_keep, state_on_meta
from diffdistill.students.denoisers.choices import Frame
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import unlike_layers
from diffdistill.students.size import kept_layers
from diffdistill.students.weights import make_student

Keep = Mapping[str, Sequence[int]]


@dataclass
class Cut:
    """A student that could be: its lists in the teacher's numbering, and what is known of it so far.

    Attributes:
        pattern: how its layers were chosen.
        fresh: tensors that start from random values.
        unpaired: layers of the student that are compared with none, as their partner's feature has another shape.
        cost: unit -> what it costs, of the student itself.
        loss: the sum of the scores of what it drops; None where they are not known.
        error: of the whole cut before training, see `Samples`.
        trained_error, metrics: after the short training.
        folder: of that training.
        seeds: seed -> the metrics after the same training with that seed.
    """

    pattern: str
    keep: dict[str, list[int]]
    fresh: list[str]
    cost: dict[str, float]
    unpaired: list[str] = field(default_factory=list)
    loss: float | None = None
    error: float | None = None
    trained_error: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    folder: str = ""
    seeds: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same text for the same student."""
        return json.dumps(self.keep, sort_keys=True)


class Space:
    """What the search starts from: all layers of the config's teacher, or those that its `student.keep` keeps."""

    def __init__(self, config: Config):
        self.config = config
        self.plan = check_model(config.model)
        self.family, self.layers = self.plan.family, self.plan.layers
        self.kind, self.teacher_config = self.family.denoiser_class, self.family.denoiser_config
        self.teacher = build_on_meta(self.kind, self.teacher_config)
        self.denoiser = build_on_meta(self.kind, self.plan.config)  # of the space
        self.lengths = module_lists(self.teacher)
        self.beside = sum(frozen_parameters(self.plan).values())
        self.base = {path: kept for path, kept in self.layers.kept.items() if len(kept) < self.lengths[path]}

    @cached_property
    def removable(self) -> list[str]:
        """The layers that can be left out alone; see `bypass.removable`, which takes a pass of the denoiser."""
        return removable(self.denoiser)

    @cached_property
    def frames(self) -> list[Frame]:
        """The frames in which something is gone: one for each number of innermost stages."""
        found = rules_of(self.kind).choices(self.denoiser, lambda path, length, number: list(range(number)))
        return [frame for frame in found if frame.name]

    def in_teacher(self, keep: Keep) -> dict[str, list[int]]:
        """Lists of the space's denoiser, as lists of the teacher; those that lose nothing are left out."""
        found = {path: list(kept) for path, kept in self.base.items()}
        for path, kept in keep.items():
            origin = self.layers.to_teacher(path)
            found[origin] = [self.layers.kept[origin][index] for index in kept]
        return self.without_gone(found)

    def without_gone(self, keep: Keep) -> dict[str, list[int]]:
        """Lists without those that stand inside a layer that has gone, and those that lose nothing."""
        layers = resolve_keep(self.lengths, keep)
        return {
            path: list(kept)
            for path, kept in sorted(layers.kept.items())
            if len(kept) < self.lengths[path] and layers.to_student(path) is not None
        }

    def cut(self, pattern: str, keep: Keep, fresh_allowed: bool = False, loss: float | None = None) -> Cut | None:
        """The student that keeps these lists of the teacher; None where no config describes it or it lacks first weights.

        With `fresh_allowed` tensors may start from random values.
        """
        try:
            config, layers = plan_student(self.kind, self.teacher_config, keep)
        except InputError:
            return None
        ours, theirs = (state_on_meta(self.kind, each) for each in (config, self.teacher_config))
        fresh = [
            name
            for name, tensor in ours.items()
            if (origin := theirs.get(layers.to_teacher(name))) is None or origin.shape != tensor.shape
        ]
        if fresh and not fresh_allowed:
            return None
        return Cut(pattern, dict(keep), fresh, cost_of(build_on_meta(self.kind, config), self.beside), loss=loss)

    def student(self, teacher: nn.Module, cut: Cut) -> nn.Module:
        """The untrained student, in eval mode."""
        torch.manual_seed(0)  # of what is fresh
        return (
            make_student(teacher, cut.keep, cut.fresh, self.plan.first_weights)[0]
            .eval()
            .to(next(teacher.parameters()).device)
        )

    def model_of(self, cut: Cut) -> dict:
        """The config's `model`, with this student."""
        model = self.config.model.to_dict()
        student = {key: value for key, value in (model.get("student") or {}).items() if key not in ("keep", "fresh")}
        found = model | dict(student=student | dict(keep=cut.keep) | (dict(fresh=cut.fresh) if cut.fresh else {}))
        if cut.unpaired:
            pairs = model.get("feature_pairs") or {}
            unpaired = dict.fromkeys(cut.unpaired)
            found["feature_pairs"] = pairs | dict(pairs=(pairs.get("pairs") or {}) | unpaired)
        return found

    def trouble(self, cut: Cut) -> str:
        """Why the config, its losses and feature pairs included, cannot train this student; "" where it can."""
        try:
            if self.plan.pairs:
                config, layers = plan_student(self.kind, self.teacher_config, cut.keep)
                pairs = self.config.model.get("feature_pairs") or {}
                cut.unpaired = unlike_layers(self.kind, config, self.teacher_config, layers, **pairs)
            check_model(self.model_of(cut))
        except InputError as error:
            return str(error)
        return ""

    def drawn(self, cut: Cut) -> dict[str, dict[str, bool]]:
        """Stage -> layer -> whether it stays, for a picture of the network."""
        return kept_layers(self.teacher, resolve_keep(self.lengths, cut.keep))
