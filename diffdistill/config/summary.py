"""What a config will train, before any weight is downloaded: sizes, operations, layers kept, feature pairs and memory."""

from collections.abc import Mapping

import torch
from mmengine.config import Config
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.config.stages import plan_stages, stage_configs, title_of
from diffdistill.families.architectures import planning
from diffdistill.models.adapters import trainable
from diffdistill.models.plan import DTYPES, Plan
from diffdistill.students.cut import build_on_meta
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.size import count, kept_layers, measure

# Bytes of optimizer state per parameter of 4 bytes, by the class's name in lower case. Adafactor is counted from shapes.
STATE_BYTES = {
    **dict.fromkeys(["adam", "adamw", "nadam", "radam", "adamax", "adan", "schedulefreeadamw", "prodigy"], 8),
    **dict.fromkeys(["sgd", "lion", "adagrad", "rmsprop", "sophia"], 4),
    **dict.fromkeys(["adam8bit", "adamw8bit", "pagedadam8bit", "pagedadamw8bit"], 2),
    **dict.fromkeys(["lion8bit", "pagedlion8bit", "sgd8bit"], 1),
}


def frozen_parameters(plan: Plan) -> dict[str, int]:
    """Parameters of the pipeline's other models, from their config files."""
    return {name: count(plan.family.build_on_meta(name)) for name in plan.family.models}


def count_trainable(model: nn.Module) -> int:
    """The number of parameters of `model` that have gradients."""
    return sum(parameter.numel() for parameter in trainable(model).values())


def optimizer_bytes(optimizer: Mapping, model: nn.Module) -> int | None:
    """Bytes of the optimizer's state for the fp32 parameters that are trained; None for a class that is not known here."""
    size = count_trainable(model)
    name = optimizer["type"] if isinstance(optimizer["type"], str) else optimizer["type"].__name__
    name = name.rsplit(".", 1)[-1].lower()
    if name == "adafactor":
        # Rows and columns over the last two dimensions, whole below two (Shazeer and Stern, 2018, sec. 3 and 4).
        shapes = [tuple(parameter.shape) for parameter in trainable(model).values()]
        factors = [torch.Size(s[:-1]).numel() + torch.Size(s[:-2] + s[-1:]).numel() if len(s) > 1 else s[0] for s in shapes]
        first_moment = size if optimizer.get("beta1") is not None else 0
        return 4 * (sum(factors) + first_moment)
    if name == "sgd" and not optimizer.get("momentum"):
        return 0
    return STATE_BYTES[name] * size if name in STATE_BYTES else None


def training_memory(config: Config, trained: nn.Module, teacher: int, frozen: int, features: int) -> dict:
    """Bytes that stay on the device during training, by what they are; None where the optimizer is not known.

    Not in it: activations, which depend on the batch, the resolution and the attention kernel.
    """
    width = DTYPES[config.model.get("dtype", "float32")].itemsize
    hooks = [hook for hook in (config.get("default_hooks") or {}).values() if hook]
    has_ema = any(str(hook["type"]).endswith("EMAHook") for hook in [*hooks, *(config.get("custom_hooks") or [])])
    batch_size = config.train_dataloader.batch_size
    memory = dict(
        weights=4 * count(trained),
        gradients=4 * count_trainable(trained),
        optimizer=optimizer_bytes(config.optim_wrapper.optimizer, trained),
        ema=4 * count(trained) if has_ema else 0,
        teacher=width * teacher,
        frozen=width * frozen,
        # Both sides of every pair in the compute dtype, and in fp32 as the loss compares them.
        features=2 * features * batch_size * (width + (4 if width < 4 else 0)),
    )
    return memory | dict(total=sum(value or 0 for value in memory.values()))


def summarize(config: Config) -> dict:
    """Figures of `config` that follow from its text: no weights are read, and of known hub names nothing is downloaded.

    Of a config in stages: those of its last stage, and a list of all as "stages".
    """
    if not config.get("stages"):
        with planning():
            return summarize_plan(config, check_model(config.model))
    configs = stage_configs(config)
    with planning():
        plans = plan_stages(configs)
        figures = [summarize_plan(*stage) for stage in zip(configs, plans, strict=True)]
    stages = [dict(title=title_of(stage), **each) for stage, each in zip(configs, figures, strict=True)]
    return dict(figures[-1], stages=stages)


def summarize_plan(config: Config, plan: Plan) -> dict:
    """The figures of `summarize` for a config without stages, or for one stage, and its plan."""
    model, family, frozen = config.model, plan.family, frozen_parameters(plan)
    origin = model.get("base") or model.teacher
    teacher, student = (build_on_meta(family.denoiser_class, each).eval() for each in (family.denoiser_config, plan.config))
    teacher_figures, _ = measure(teacher)
    student_figures, features = measure(student, [ours for ours, _ in plan.pairs])
    own = 0 if family.denoiser_name in plan.whole or plan.student_is_teacher else student_figures["parameters"]
    resident = teacher_figures["parameters"] if plan.needs_teacher or plan.student_is_teacher else 0
    still = own + sum(size for name, size in frozen.items() if name not in plan.whole)
    return dict(
        family=type(family).__name__,
        origin="base" if model.get("base") else "teacher",
        latent_size=rules_of(family.denoiser_class).latent_size(family.denoiser_config),
        teacher=dict(checkpoint=origin.get("denoiser") or family.checkpoint.name, **teacher_figures),
        student=dict(checkpoint=(model.get("student") or {}).get("checkpoint"), **student_figures),
        kept=kept_layers(teacher, plan.layers),
        pairs=[list(pair) for pair in plan.pairs],
        trained=list(plan.on_meta),
        trainable_parameters=count_trainable(plan.on_meta),
        frozen=frozen,
        memory=training_memory(config, plan.on_meta, resident, still, features),
        disk={name: dtype.itemsize * count(plan.on_meta) for name, dtype in DTYPES.items() if name != "bfloat16"},
    )
