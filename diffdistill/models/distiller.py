"""Distillation: a student that is trained, its teacher frozen beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diffdistill.methods.base import Features
from diffdistill.models.adapters import adapters_off
from diffdistill.models.base import DiffusionModel
from diffdistill.models.student import StudentPlan
from diffdistill.registry import MODELS
from diffdistill.step import Step
from diffdistill.students.features import FeatureTaps, feature_of, record_inputs, recovering, split_stream, streams_of


@MODELS.register_module()
class Distiller(DiffusionModel):
    """Trains `student` by `method`, scored by `losses`, against the frozen denoiser of `teacher`.

    Where neither the method nor a loss needs a teacher, and where there is no loss, the student's first weights are copied
    from the teacher's denoiser, which is then let go.

    Args:
        teacher: the family and checkpoint, e.g. `dict(type="StableDiffusionXL", checkpoint=...)`.
        student: `keep` (which layers of the teacher stay; {} keeps all), `checkpoint` (pretrained weights of the student
            instead of the teacher's), `fresh` (patterns of tensors that start from random values), `first_weights` ("mean":
            of a kept layer and those dropped behind it, instead of the kept one's), `frozen` (patterns of layers that are
            not trained), `prediction_type` (instead of the teacher's), `guidance_embedding` (the width of an embedding of
            the guidance scale), `adapter` (a config of peft: the student is frozen and its adapter trained; with all layers
            kept, one model in memory is the student and, with the adapter off, the teacher), `quantize` (train it with
            weights of a few bits; see `Quantization`).
        losses: name -> loss, or None for none; "task" is logged as `loss_task`. Values are logged weighted, so they add up
            to `loss`.
        feature_pairs: `level`, `rule`, `pairs` of `students.features.derive_pairs`.
        method, gradient_checkpointing, dtype, sampling: see `DiffusionModel`.
    """

    plan_class = StudentPlan
    distills = True
    noun = "student"
    section = "model.student"

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

    def take_block_step(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> Step:
        """Run the teacher, and each student layer of a pair, with gradient, on what its own saw in the teacher."""
        pairs, features = recovering(self.pairs, self.layers), {}
        modules = dict.fromkeys(split_stream(ours)[0] for ours, _ in pairs)
        origins = [self.layers.to_teacher(module) for module in modules]
        with record_inputs(self.teacher, origins) as seen:
            _, theirs = self.predict_teacher(noisy, timesteps, condition)
        with self.autocast():
            for module, origin in zip(modules, origins, strict=True):
                args, kwargs = seen[origin]
                modules[module] = self.student.get_submodule(module)(*args, **kwargs)
        for ours, target in pairs:
            module, stream = split_stream(ours)
            found = feature_of(modules[module], streams_of(type(self.student), module), stream)
            features[f"{ours} <- {target}"] = (found, theirs[target])
        return Step(noisy, timesteps, None, None, self.noise_schedule, features=features)

    @torch.no_grad()
    def predict_teacher(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> tuple[Tensor, Features]:
        """The teacher's prediction, of its own prediction type, and features, in the compute dtype."""
        layers = [theirs for _, theirs in self.pairs]
        with self.denoiser(teacher=True) as teacher, FeatureTaps(teacher, layers).record() as features:
            prediction = self.family.predict(teacher, noisy.to(self.dtype), timesteps, condition)
        return prediction, features
