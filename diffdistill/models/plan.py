"""What a config decides about a model before any weight is loaded."""

import copy
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import ClassVar

import diffusers
import torch
from mmengine.device import get_device
from torch import Tensor, nn

from diffdistill.errors import InputError, warn_once
from diffdistill.families.base import Family
from diffdistill.models.adapters import inject, parameter_tree, trainable
from diffdistill.registry import MODELS
from diffdistill.students.cut import build_on_meta

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def compute_dtype(name: str) -> torch.dtype:
    """The dtype that `model.dtype` names."""
    if name not in DTYPES:
        raise InputError(f"model.dtype={name!r} is unknown; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def warn_of_half_on_cpu(dtype: str, key: str, device: str | None = None) -> None:
    """One line where `key` asks for fp16 on a CPU; `device` is by default the one that models are put on."""
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
    """What a config decides about a model before any weight is loaded.

    Args:
        family: of the pipeline.
        config: of the denoiser that is trained, in diffusers' terms.
        losses, method: the keys of that name of the model.
        components: what is trained: name of the pipeline's model -> the config of its adapter and the key that holds it;
            without a config the model is trained whole.

    Attributes:
        noise_schedule: with the prediction type of what is trained.
        whole, adapters: the components of both kinds.
        on_meta: what is trained, without its values.
    """

    needs_teacher = False
    student_is_teacher = False  # with its adapter off
    pairs: Sequence[tuple[str, str]] = ()
    sections: ClassVar[dict[str, Collection[str] | None]] = {}  # keys of the model that are dicts -> what these may hold

    def __init__(
        self,
        family: Family,
        config: Mapping,
        losses: Mapping[str, dict | None],
        method: Mapping | None,
        components: Mapping[str, tuple[Mapping | None, str]],
    ):
        self.family, self.config, self.noise_schedule = family, config, family.noise_schedule
        self.method = MODELS.build(method or dict(type="DenoisingKD"))
        self.losses = {name: MODELS.build(loss) for name, loss in losses.items() if loss is not None}
        self.whole = [name for name, (adapter, _) in components.items() if not adapter]
        self.adapters = {name: (adapter, where) for name, (adapter, where) in components.items() if adapter}
        self.on_meta = nn.ModuleDict({name: self.component_on_meta(name) for name in components})

    def load_denoisers(self) -> tuple[nn.Module, nn.Module | None]:
        """The student in fp32, and its teacher where one is needed; with an adapter, both may be one."""
        raise NotImplementedError

    def component_on_meta(self, name: str) -> nn.Module:
        """What is trained of the component `name`, without its values."""
        if name == self.family.denoiser_name:
            model = build_on_meta(self.family.denoiser_class, self.config)
        else:
            model = self.family.build_on_meta(name)
        if name not in self.adapters:
            return model
        with torch.device("meta"):
            return adapter_tree(copy.deepcopy(model), *self.adapters[name])

    def trained_state(self) -> dict[str, Tensor]:
        """Names and shapes of what a checkpoint of the run holds, as tensors on the meta device."""
        return nn.ModuleDict(dict(trained=self.on_meta)).state_dict()


def adapter_tree(model: nn.Module, adapter: Mapping, where: str) -> nn.Module:
    """Put an adapter into `model`; gives modules that hold the adapter's weights alone."""
    return parameter_tree(trainable(inject(model, adapter, where)))
