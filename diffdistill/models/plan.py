"""What a config decides about a model before any weight is loaded."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import ClassVar

import diffusers
import torch
from mmengine.device import get_device
from torch import Tensor, nn

from diffdistill.datasets.cache import Cache
from diffdistill.errors import InputError, warn_once
from diffdistill.families.base import Family
from diffdistill.losses.base import Loss
from diffdistill.methods.base import Method
from diffdistill.models.adapters import adapter_tree
from diffdistill.models.critics import Critics, named_critics
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS, build_part
from diffdistill.students.cut import LayerMap, build, build_on_meta
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.quantization import Quantization
from diffdistill.students.recompute import Choice, check_recomputed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# A pipeline's model that is trained -> the config of its adapter, and the key of the config that holds that. Without a
# config the model is trained whole.
Components = Mapping[str, tuple[Mapping | None, str]]


def compute_dtype(name: str) -> torch.dtype:
    """The dtype that `model.dtype` names."""
    if name not in DTYPES:
        raise InputError(f"model.dtype={name!r} is unknown; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def warn_of_half_on_cpu(dtype: str, key: str, device: str | None = None) -> None:
    """Warn, in one line, of a `key` that asks for fp16 on a CPU; `device` is by default the one that models are put on."""
    if dtype == "float16" and (device or get_device()) == "cpu":
        warn_once(f"{key}=float16: most CPUs have no fp16 and take up to hundreds of times as long; give {key}=bfloat16")


def scheduler_class(name: str) -> type:
    """The diffusers scheduler that `model.sampling.scheduler` names."""
    known = [other for other in dir(diffusers) if other.endswith("Scheduler")]
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.0))
        raise InputError(f"model.sampling.scheduler={name!r} is no scheduler of diffusers; the nearest: {near}")
    return getattr(diffusers, name)


class Plan:
    """What a config decides about a model before any weight is loaded. It is made once, and the model is built from it.

    Args:
        family: of the pipeline.
        config: of the denoiser that is trained, in diffusers' terms.
        layers: which layer of the pipeline's own denoiser each of its layers stands for.
        losses, method, gradient_checkpointing, dtype, sampling: the keys of that name of the model.
        components: what is trained.
        prediction_type: of what is trained, where it is not the pipeline's.

    Attributes:
        noise_schedule: with the prediction type of what is trained.
        whole, adapters: the components that are trained whole, and those of which an adapter is.
        on_meta: what is trained, without its values.
        fresh: patterns of the tensors that start from random values.
        needs_teacher: whether a loss or the method asks the teacher, so that it stays in memory.
        student_is_teacher: whether one model in memory is both, the teacher being the student with its adapter off.
        pairs: (student layer, teacher layer) whose features are compared.
        cache: stands in for VAE and text encoders; set where the whole config is checked.
        quantization: of the denoiser that is trained; none is false.
        critics: what is trained beside, without its values; empty where the model is not built to be trained.
    """

    # Keys of the model that are dicts -> the keys that these may hold; None: any.
    sections: ClassVar[dict[str, Collection[str] | None]] = {"sampling": None}

    layers: LayerMap
    fresh: Sequence[str] = ()
    needs_teacher = False
    student_is_teacher = False
    pairs: Sequence[tuple[str, str]] = ()
    cache: Cache | None = None
    quantization = Quantization()

    def __init__(
        self,
        family: Family,
        config: Mapping,
        layers: LayerMap,
        losses: Mapping[str, dict | None],
        method: Mapping | None,
        components: Components,
        gradient_checkpointing: Choice = False,
        dtype: str = "float32",
        sampling: Mapping | None = None,
        prediction_type: str | None = None,
    ):
        self.family, self.config, self.layers = family, config, layers
        self.noise_schedule: NoiseSchedule = family.noise_schedule
        if prediction_type:
            self.noise_schedule = self.noise_schedule.predicting(prediction_type)
        self.method: Method = build_part(MODELS, method or dict(type="DenoisingKD"), "model.method")
        self.losses: dict[str, Loss] = {
            name: build_part(MODELS, loss, f"model.losses.{name}") for name, loss in losses.items() if loss is not None
        }
        self.gradient_checkpointing, self.dtype, self.sampling = gradient_checkpointing, compute_dtype(dtype), sampling or {}
        check_recomputed(family.denoiser_class, config, gradient_checkpointing)
        self.whole = [name for name, (adapter, _) in components.items() if not adapter]
        self.adapters = {name: (adapter, where) for name, (adapter, where) in components.items() if adapter}
        self.on_meta = nn.ModuleDict({name: self.component_on_meta(name) for name in components})
        self.critics = Critics()

    @property
    def embeds_guidance(self) -> bool:
        """Whether the denoiser that is trained has an embedding of the guidance scale."""
        return rules_of(self.family.denoiser_class).embeds_guidance(self.config)

    @property
    def can_embed_guidance(self) -> bool:
        """Whether such an embedding could be added to a denoiser of that class."""
        return rules_of(self.family.denoiser_class).add_guidance is not None

    @property
    def student_sampling(self) -> dict:
        """How the student is to be sampled, where the method trains it for one sampler; it overrides `sampling`."""
        return self.method.sampling(self)

    def load_denoisers(self) -> tuple[nn.Module, nn.Module | None]:
        """The student in fp32, and its teacher where one is needed, else None; with an adapter, both may be one model."""
        raise NotImplementedError

    def component_on_meta(self, name: str) -> nn.Module:
        """What is trained of the component `name`, without its values."""
        adapted = name in self.adapters
        with torch.device("meta"):
            if name != self.family.denoiser_name:
                model = self.family.build_on_meta(name)
            else:  # that of `build_on_meta` is shared, and gets no adapter
                model = (build if adapted else build_on_meta)(self.family.denoiser_class, self.config)
            return adapter_tree(model, *self.adapters[name]) if adapted else model

    def trained_state(self) -> dict[str, Tensor]:
        """Names and shapes of what a checkpoint of the run holds, as tensors on the meta device."""
        return nn.ModuleDict(dict(trained=self.on_meta, critics=nn.ModuleDict(self.critics))).state_dict()

    @property
    def needs_pictures(self) -> bool:
        """Whether the method or a loss needs more of the data than its captions."""
        return self.method.needs_pictures or any(loss.needs_pictures for loss in self.losses.values())

    @property
    def trains_text(self) -> bool:
        """Whether a text encoder is trained as well."""
        return any(name != self.family.denoiser_name for name in self.on_meta)

    def describe_critics(self, teacher: nn.Module | None) -> dict[str, tuple[nn.Module | Mapping, str]]:
        """Name -> critic, a network or the config of an adapter, and the key of the config that asks for it."""
        owners = {"model.method": self.method} | {f"model.losses.{name}": loss for name, loss in self.losses.items()}
        return named_critics({where: owner.critics(self, teacher) for where, owner in owners.items()}, self.losses)

    def without_critics(self) -> "Plan":
        """This plan, for a model that is not trained."""
        self.critics = Critics()
        return self
