"""Fine-tuning: a pipeline's own denoiser is trained, whole or by an adapter, with no teacher beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.models.assistant import Assistant, silenced
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan
from diffdistill.registry import MODELS, build_part
from diffdistill.students.cut import plan_student
from diffdistill.students.recompute import Choice


class FineTunePlan(Plan):
    """What a config decides about a fine-tuning before any weight is loaded.

    Args:
        base, losses, adapter, finetune_text_encoder, text_encoder_adapter, method, assistant: the keys of that name of
            `FineTuner`.
        gradient_checkpointing, dtype, sampling: see `DiffusionModel`.
    """

    def __init__(
        self,
        base: Mapping,
        losses: Mapping[str, dict | None],
        adapter: Mapping | None = None,
        finetune_text_encoder: bool = False,
        text_encoder_adapter: Mapping | None = None,
        method: Mapping | None = None,
        gradient_checkpointing: Choice = False,
        dtype: str = "float32",
        sampling: Mapping | None = None,
        assistant: str | None = None,
    ):
        family = build_part(MODELS, dict(base, key="model.base"), "model.base")
        components = {family.denoiser_name: (adapter, "model.adapter")}
        if text_encoder_adapter:
            if finetune_text_encoder:
                raise InputError(
                    "model.finetune_text_encoder=True trains the text encoders whole, and model.text_encoder_adapter their"
                    " adapters alone; choose one"
                )
            components |= text_encoder_adapters(family, text_encoder_adapter)
        elif finetune_text_encoder:
            components |= dict.fromkeys(family.text_encoders, (None, ""))
        config = family.denoiser_config
        layers = plan_student(family.denoiser_class, config, keep={})[1]
        super().__init__(family, config, layers, losses, method, components, gradient_checkpointing, dtype, sampling)
        self.check_teacherless()
        self.method.check(self)
        self.assistant = self.find_assistant(assistant) if assistant else None

    def find_assistant(self, path: str) -> Assistant | None:
        """The assistant at `path`, or None where nothing is trained: such a model is there to be sampled or exported.

        Raises InputError unless what is trained of the denoiser is a LoRA, from which the assistant can be told apart.
        """
        adapter, key = self.adapters.get(self.family.denoiser_name, (None, "model.adapter"))
        if (adapter or {}).get("type") != "LoraConfig":
            trained = f"{key}.type={adapter['type']}" if adapter else "no model.adapter, so the denoiser is trained whole"
            raise InputError(
                f"model.assistant={path}: it is taken out again, which needs a LoRA beside it, and there is {trained}; set"
                " model.adapter.type='LoraConfig', or leave the assistant out"
            )
        return Assistant(path, self.family) if self.losses else None

    def check_teacherless(self) -> None:
        """Raise InputError for a loss or method that compares with a teacher."""
        if self.method.needs_teacher:
            raise InputError(
                f"model.method: {type(self.method).__name__} asks a teacher, and a FineTuner has none; use DenoisingKD,"
                " or model.type='Distiller'"
            )
        for name, loss in self.losses.items():
            if loss.needs_teacher:
                raise InputError(
                    f"model.losses.{name}: {type(loss).__name__} compares with a teacher, and a FineTuner has none;"
                    " use a loss that compares with the data, such as TaskLoss, or model.type='Distiller'"
                )

    def load_denoisers(self) -> tuple[nn.Module, None]:
        return self.family.load_denoiser(), None


def text_encoder_adapters(family: Family, adapters: Mapping) -> dict[str, tuple[Mapping, str]]:
    """Text encoder -> its adapter and the key that holds it; one adapter without a name is for all of them."""
    key = "model.text_encoder_adapter"
    if "type" in adapters:
        return dict.fromkeys(family.text_encoders, (adapters, key))
    for name in adapters:
        if name not in family.text_encoders:
            raise InputError(
                f"{key}.{name}: a {type(family).__name__} has no text encoder of that name;"
                f" it has {', '.join(family.text_encoders)}"
            )
    return {name: (adapter, f"{key}.{name}") for name, adapter in adapters.items() if adapter}


@MODELS.register_module()
class FineTuner(DiffusionModel):
    """Trains the denoiser of `base`, and on request its text encoders, by `method`, scored by `losses`.

    Args:
        base: the family and checkpoint, e.g. `dict(type="StableDiffusionXL", checkpoint="segmind/SSD-1B")`; `denoiser` takes
            the folder of a distilled one instead, e.g. `work_dirs/<run>/unet`.
        losses: name -> loss, or None for none; "task" is logged as `loss_task`.
        adapter: a config of peft for the denoiser, e.g. `dict(type="LoraConfig", r=8, target_modules=["to_q", "to_v"])`; it
            alone is trained. None trains the denoiser whole.
        finetune_text_encoder: train the text encoders, too, whole.
        text_encoder_adapter: a config of peft for every text encoder, or a dict of one for each by name.
        assistant: the `step<N>` folder of a LoRA of this base that undoes its distillation; it is active in training steps
            alone, not in pictures nor in exports. See `Assistant`.
        method, gradient_checkpointing, dtype, sampling: see `DiffusionModel`.
    """

    plan_class = FineTunePlan
    distills = False
    noun = "fine-tuned"
    section = "model.base"

    def __init__(self, *, plan: FineTunePlan | None = None, data_preprocessor: dict | None = None, **config):
        plan = plan or self.plan_class(**config)
        super().__init__(plan=plan, data_preprocessor=data_preprocessor)
        if plan.assistant:
            plan.assistant.join(self.student, self.dtype)

    @contextmanager
    def denoiser(self, teacher: bool = False) -> Iterator[nn.Module]:
        """What is tuned, ready to be sampled inside the block: without its assistant."""
        with silenced(self.student):
            yield self.student
