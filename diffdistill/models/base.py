"""What every model that MMEngine trains here has in common: encode a batch, let the method compute a step, score it."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from diffdistill.datasets.cached import is_cached
from diffdistill.errors import InputError
from diffdistill.families.loading import freeze
from diffdistill.losses.base import Loss
from diffdistill.methods.base import Features
from diffdistill.models.adapters import adapter_tree, train_adapters
from diffdistill.models.cached import CachedEncoding
from diffdistill.models.critics import CriticisedModel
from diffdistill.models.drawing import Drawing
from diffdistill.models.encoding import condition_of, latents_of
from diffdistill.models.frozen import Frozen, moved
from diffdistill.models.plan import Plan, warn_of_half_on_cpu
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS
from diffdistill.step import Step
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import FeatureTaps
from diffdistill.students.recompute import recompute


class DiffusionModel(Drawing, CriticisedModel):
    """A denoiser, the `student`, that is trained by `method` and scored by `losses`, inside a pipeline.

    What is trained stands in the module tree, under `trained.<component>`: a whole model in fp32, or the weights of its
    adapter; what is trained beside the student, under `critics`. Everything else is in `frozen`, in the compute dtype.

    Args:
        plan: what the config decides, where it is there already. A config gives the arguments of `plan_class` instead, among
            which all kinds of model have:
            `gradient_checkpointing`: recompute the student's activations in backward, all (True) or those of the blocks that
            fit one of a list of patterns, such as "down_blocks.0";
            `dtype`: compute dtype, in which frozen parts are stored; what is trained stays in fp32 and runs under autocast;
            `sampling`: arguments of the diffusers pipeline's call for validation and sample grids; its `scheduler` names a
            diffusers scheduler class instead of the checkpoint's, or is a dict of its `type` and changes to its config.
            `Method.sampling` overrides them for the student, and what a user asks for by hand (`asked`), both.
    """

    plan_class: type[Plan]
    distills: bool  # whether what is trained is the student of a teacher
    noun: str  # what logs and figures call it
    section: str  # of the config, which describes the denoiser that is trained
    teacher: nn.Module | None = None
    average: nn.Module | None = None

    def __init__(self, *, plan: Plan | None = None, data_preprocessor: dict | None = None, **config):
        super().__init__(data_preprocessor)
        plan = plan or self.plan_class(**config)
        self.dtype = plan.dtype
        warn_of_half_on_cpu(str(plan.dtype).removeprefix("torch."), "model.dtype")
        self.family, self.losses, self.method = plan.family, plan.losses, plan.method
        self.noise_schedule, self.layers, self.pairs = plan.noise_schedule, plan.layers, plan.pairs
        self.sampling, self.asked = dict(plan.sampling), {}
        self.needs_pictures, self.trains_text = plan.needs_pictures, plan.trains_text
        self.draws_teacher = False  # True validates the teacher, by the same protocol

        student, teacher = plan.load_denoisers()
        critics = plan.describe_critics(teacher) if plan.critics else {}  # while the teacher is in fp32
        recompute(student, plan.gradient_checkpointing)
        name = self.family.denoiser_name
        for denoiser in (teacher, student if name in plan.adapters else None):
            if denoiser is not None:
                freeze(denoiser, self.dtype)
        self.cached = CachedEncoding(self.family, plan.cache) if plan.cache else None
        absent = ("vae", *self.family.text_encoders) if self.cached else ()
        pipeline = self.family.assemble(self.family.load(self.dtype, plan.whole, absent), teacher)
        models = {**pipeline.components, name: student}
        self.trained = nn.ModuleDict({name: models[name] for name in plan.whole})
        for component, adapter in plan.adapters.items():
            self.trained[component] = adapter_tree(models[component], *adapter)
        lend = functools.partial(self.family.load_encoders, self.dtype) if absent else None
        self.frozen = Frozen(pipeline, student if name in plan.adapters else None, bool(self.family.quantize), lend)
        self.adapted = list(plan.adapters)
        self.add_critics(critics, plan.gradient_checkpointing)

    @property
    def student(self) -> nn.Module:
        """The denoiser that is trained, or whose adapter is."""
        return self.trained[self.family.denoiser_name] if self.frozen.student is None else self.frozen.student

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return self.student.device

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

    @property
    def of_picture(self) -> Sequence[str]:
        """Entries of the conditioning that describe the picture and not its caption."""
        return self.family.of_picture

    @property
    def teacher_embeds_guidance(self) -> bool:
        """Whether the teacher is told the guidance scale by an embedding of it."""
        return self.teacher is not None and rules_of(type(self.teacher)).embeds_guidance(self.teacher.config)

    @property
    def embeds_guidance(self) -> bool:
        """Whether the student is told the guidance scale by an embedding of it."""
        return rules_of(type(self.student)).embeds_guidance(self.student.config)

    @property
    def student_sampling(self) -> dict:
        """How the student is to be sampled, where the method trains it for one sampler; it overrides `sampling`."""
        return self.method.sampling(self, self.asked.get("num_inference_steps"))

    def autocast(self) -> torch.autocast:
        """The context in which models compute in `dtype` on the student's device; fp32 needs none, and it does nothing."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def train(self, mode: bool = True) -> "DiffusionModel":
        """Put what is trained, and dropout inside adapters, into train or eval mode; what is frozen stays in eval mode."""
        super().train(mode)
        for name in self.adapted:
            train_adapters(self.component(name), mode)
        return self

    def forward(self, mode: str = "loss", **batch) -> dict[str, Tensor] | list[dict]:
        """`loss`: the weighted terms of one step. `predict`: a picture for every caption, as a list of records."""
        if mode == "predict":
            pictures = self.sample(batch["caption"], batch["seed"], teacher=self.draws_teacher)
            rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
            return [dict(row, image=picture) for row, picture in zip(rows, pictures, strict=True)]
        latents, condition = self.encode(batch)
        step = self.method(self, latents, condition)
        step.latents, step.condition = latents, condition
        step.sample_weights = batch.get("weight")
        return self.score(step)

    def score(self, step: Step) -> dict[str, Tensor]:
        """The terms of a step by their names in the log: those of the student where it is its turn, and of its critics."""
        for loss in self.losses.values():
            if isinstance(loss, Loss):  # any callable will do, without critics
                loss.train_critics(self, step)
        terms = {name: loss(step) for name, loss in self.losses.items()} if self.turn.student else {}
        return {f"loss_{name}": term for name, term in (terms | step.critic_losses).items()} | step.figures

    def encode(self, batch: dict) -> tuple[Tensor, dict]:
        """Latents (B, C, H, W) in fp32 and the denoiser's conditioning of a batch."""
        if is_cached(batch):
            self.frozen.release()  # what validation or samples have asked for
            return self.cached.encode(batch, self.needs_pictures)
        pipeline = self.frozen.whole(self.device)
        latents = latents_of(self.family, pipeline, batch, self.needs_pictures)
        with self.autocast() if self.trains_text else nullcontext():
            return latents, moved(condition_of(self.family, pipeline, batch), latents.device)

    def take_step(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        condition: dict,
        target: Tensor,
        teacher_prediction: Tensor | None = None,
        teacher_features: Features | None = None,
    ) -> Step:
        """Run the student, with gradient; see `methods.base.TrainedModel`, which says so of all that methods call."""
        with FeatureTaps(self.student, [ours for ours, _ in self.pairs]).record() as ours, self.autocast():
            prediction = self.family.predict(self.student, noisy, timesteps, condition)
        pairs = self.pairs if teacher_features else []
        features = {f"{student} <- {teacher}": (ours[student], teacher_features[teacher]) for student, teacher in pairs}
        return Step(
            noisy,
            timesteps,
            prediction,
            target,
            self.noise_schedule,
            teacher_prediction=teacher_prediction,
            features=features,
        )

    def take_compared_step(self, noisy: Tensor, timesteps: Tensor, condition: dict, target: Tensor) -> Step:
        """Run the student, and the teacher on the same input, where there is one."""
        return self.take_step(noisy, timesteps, condition, target)

    @torch.no_grad()
    def predict_student(self, noisy: Tensor, timesteps: Tensor, condition: dict, averaged: bool = False) -> Tensor:
        """What the student, or its moving average, predicts, in fp32."""
        denoiser = self.average if averaged else self.student
        if denoiser is None:
            raise InputError(
                "no moving average of the student is kept; set default_hooks.ema=dict(type='TargetEMAHook', momentum=0.05)"
            )
        with self.autocast():
            return self.family.predict(denoiser, noisy, timesteps, condition).float()

    def replace_captions(self, condition: dict, captions: Sequence[str]) -> dict:
        """The conditioning of the same pictures with other captions."""
        found = self.cached and self.cached.replace_captions(condition, captions, self.device)
        return found or moved(
            self.family.replace_captions(self.frozen.whole(self.device), condition, list(captions)), self.device
        )

    def condition_at(self, captions: Sequence[str], height: int, width: int) -> dict:
        """The conditioning of captions for whole pictures of that size, in pixels."""
        found = self.family.condition_at(self.frozen.whole(self.device), list(captions), height, width)
        return moved(found, self.device)

    def tell_guidance(self, condition: dict, scales: Tensor, teacher: bool = False) -> dict:
        """The conditioning, with the guidance `scales` (B,) in it if the denoiser has an embedding of them."""
        return self.family.tell_guidance(self.frozen.pipeline, self.teacher if teacher else self.student, condition, scales)


def build_model(config: Mapping, plan: Plan | None) -> nn.Module:
    """The model of a config's `model`, from its plan where there is one; a model that is not ours has none."""
    if plan is None:
        return MODELS.build(config)
    return MODELS.get(config["type"])(plan=plan, data_preprocessor=config.get("data_preprocessor"))
