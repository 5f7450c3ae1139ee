"""What a config will train, before any weight is downloaded: sizes, operations, layers kept, feature pairs and memory."""

from mmengine.config import Config

from diffdistill.config.cache import size_of_cache
from diffdistill.config.check import check_model
from diffdistill.config.fit import fits
from diffdistill.config.memory import Memory, count_trainable
from diffdistill.config.stages import plan_stages, stage_configs, title_of
from diffdistill.families.architectures import planning
from diffdistill.models.plan import DTYPES, Plan
from diffdistill.students.cut import build_on_meta
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.size import count, kept_layers, measure


def frozen_parameters(plan: Plan) -> dict[str, int]:
    """Parameters of the pipeline's other models, from their config files."""
    return {name: count(plan.family.build_on_meta(name)) for name in plan.family.models}


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
    student_figures, _ = measure(student)
    memory = Memory(config, plan)
    return dict(
        family=type(family).__name__,
        origin="base" if model.get("base") else "teacher",
        latent_size=rules_of(family.denoiser_class).latent_size(family.denoiser_config),
        teacher=dict(checkpoint=origin.get("denoiser") or family.checkpoint.name, **teacher_figures),
        student=dict(checkpoint=(model.get("student") or {}).get("checkpoint"), **student_figures),
        quantized=plan.quantization.counted(plan.quantization.layers(student)) if plan.quantization else None,
        kept=kept_layers(teacher, plan.layers),
        pairs=[list(pair) for pair in plan.pairs],
        trained=list(plan.on_meta),
        trainable_parameters=count_trainable(plan.on_meta),
        critics={name: count(critic) for name, critic in plan.critics.items()},
        frozen=frozen,
        memory=memory.parts(),
        fits=fits(memory, config, plan),
        cache=size_of_cache(config, plan),
        disk={name: dtype.itemsize * count(plan.on_meta) for name, dtype in DTYPES.items() if name != "bfloat16"},
    )
