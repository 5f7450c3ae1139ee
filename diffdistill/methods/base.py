"""The contract between a method, which computes a training step, and the model that the step trains."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from diffdistill.noise import NoiseSchedule
from diffdistill.step import Step, Turn

# Layer of the teacher -> its output.
Features = Mapping[str, Tensor]


class PlannedModel(Protocol):
    """What a method may know of the model before any weight is loaded.

    `noise_schedule` has the prediction type of the student; `embeds_guidance` says whether the student has an embedding of
    the guidance scale, by which it is told that scale, and `can_embed_guidance` whether `model.student.guidance_embedding`
    could add one. `student_is_teacher` says whether one model in memory is both, the teacher being the student with its
    adapter off, and `sampling` is how the teacher is sampled.
    """

    noise_schedule: NoiseSchedule
    embeds_guidance: bool
    can_embed_guidance: bool
    student_is_teacher: bool
    sampling: Mapping


class TrainedModel(Protocol):
    """All that a method may ask of the model that it trains.

    Noisy latents, predictions and targets are (B, C, H, W), timesteps and guidance scales (B,). A `condition` is the
    conditioning of the denoiser as its family makes and reads it, a dict of tensors with B rows; entries of the names
    `of_picture` describe the picture, such as its size, and not its caption. A prediction is of the type (epsilon, v, flow)
    of the schedule of whom it is from: `noise_schedule` is the student's, `teacher_schedule` the teacher's, with the same
    noise. `teacher_embeds_guidance` says whether the teacher is told the guidance scale by an embedding of it.

    `critics` are the networks that the method and the losses own. `turn` says whom the iteration trains, and `iteration` is
    its number, from 0, the same on all ranks and after a resume.
    """

    noise_schedule: NoiseSchedule
    teacher_schedule: NoiseSchedule
    of_picture: Sequence[str]
    teacher_embeds_guidance: bool
    critics: Mapping[str, nn.Module]
    turn: Turn
    iteration: int

    def take_step(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        condition: dict,
        target: Tensor,
        teacher_prediction: Tensor | None = None,
        teacher_features: Features | None = None,
    ) -> Step:
        """Run the student, with gradient, beside what its teacher has said already.

        `target` and `teacher_prediction` are of the student's prediction type.
        """

    def take_compared_step(self, noisy: Tensor, timesteps: Tensor, condition: dict, target: Tensor) -> Step:
        """Run the student as `take_step` does, and on the same input the teacher, where one is in memory."""

    def take_block_step(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> Step:
        """Run the teacher, and each student layer of a feature pair, with gradient, on what its own saw in the teacher.

        The Step has features alone. Layers behind which nothing was dropped are left out.
        """

    def predict_teacher(self, noisy: Tensor, timesteps: Tensor, condition: dict) -> tuple[Tensor, Features]:
        """The teacher's prediction and its features, in the compute dtype, without gradient."""

    def predict_student(self, noisy: Tensor, timesteps: Tensor, condition: dict, averaged: bool = False) -> Tensor:
        """What the student, or its moving average, predicts, in fp32, without gradient.

        Raises InputError if the run keeps no average.
        """

    def predict_critic(self, name: str, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        """What the critic `name`, a denoiser, predicts, of the teacher's prediction type, in fp32, with gradient."""

    def replace_captions(self, condition: dict, captions: Sequence[str]) -> dict:
        """The conditioning of the same pictures with other captions, one for each row."""

    def tell_guidance(self, condition: dict, scales: Tensor, teacher: bool = False) -> dict:
        """The conditioning with the guidance `scales` in it, if the student, or the teacher, has an embedding of them."""


class Method:
    """What one training step computes.

    `needs_teacher` keeps the teacher's denoiser in memory whatever the losses need; `needs_average` asks for the moving
    average of the student; `predicts` says whether the step has a prediction to compare, beside features, and `compares`
    whether it may have the teacher's on the same input, which `OutputKD` scores; `smallest_batch` is the number of samples
    that a batch must have; `needs_pictures` says whether their latents count, and not their shape alone; `targets_pictures`
    whether the target stands for a clean picture; `sampler_times` are the `GridTimesteps` of a sampler of few steps, where
    no others are trained; `captions` are those that it shows beside the data's own. Every update trains the
    critics; the student waits for `warmup` updates, and then learns in the last of every `ratio`. A method has no state that
    changes: all it returns follows from its arguments and from torch's random numbers.
    """

    needs_teacher = False
    needs_average = False
    predicts = True
    compares = True
    smallest_batch = 1
    sampler_times = None
    captions: Sequence[str] = ()
    needs_pictures = True
    targets_pictures = True
    ratio = 1
    warmup = 0

    def critics(self, plan: PlannedModel, teacher: nn.Module) -> Mapping[str, nn.Module | Mapping]:
        """The networks that the method trains beside the student, by name, in fp32.

        `teacher` is the teacher's denoiser in fp32 as it was loaded, or on the meta device, where critics are built to be
        counted and checked. A mapping in the place of a module is the config of an adapter of that one model (peft).
        """
        return {}

    def turn(self, update: int) -> Turn:
        """Whom the update of that number, from 0, trains."""
        number = update + 1 - self.warmup
        return Turn(student=number > 0 and number % self.ratio == 0)

    def check(self, plan: PlannedModel) -> None:
        """Raise InputError, before any weight is loaded, if the method cannot train such a model."""

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        """What overrides `model.sampling` for the student, where the method trains it for one sampler.

        `steps` are those of the sampler, where they are not the method's own.
        """
        return {}

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        """One step on clean latents (B, C, H, W) with their conditioning."""
        raise NotImplementedError
