"""The arguments that the parts of a config take, and those of its dicts that say no type, since all know what reads them."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from mmengine import registry as mmengine_registry
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from diffdistill.config.annotations import signature_of
from diffdistill.config.read import LOADERS
from diffdistill.errors import InputError
from diffdistill.models.base import DiffusionModel
from diffdistill.students.features import derive_pairs

Parameters = Mapping[str, inspect.Parameter]
NETWORKS = inspect.Parameter(
    "paramwise_cfg", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Mapping[str, Mapping] | None
)
CONVERTED = inspect.Parameter("convert_to_iter_based", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=bool)


def student(
    keep: Mapping[str, Sequence[int] | None] | None = None,
    checkpoint: str | None = None,
    fresh: Sequence[str] | None = None,
    first_weights: str | None = None,
    frozen: Sequence[str] | None = None,
    prediction_type: str | None = None,
    guidance_embedding: int | None = None,
    adapter: Mapping | None = None,
    quantize: Mapping | None = None,
) -> None:
    """The keys of `model.student`; `models.distiller.Distiller` says what they mean."""


def quantize(bits: float, group_size: int | None = None, skip: Sequence[str] = (), activations: int | None = None) -> None:
    """The keys of `model.student.quantize`; `students.quantization.Quantization` says what they mean."""


def randomness(seed: int | None = None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
    """The keys of `randomness`, which MMEngine's Runner takes without annotations."""


def environment(
    cudnn_benchmark: bool = False,
    mp_cfg: Mapping | None = None,
    dist_cfg: Mapping | None = None,
    resource_limit: int = 4096,
) -> None:
    """The keys of `env_cfg`, which MMEngine's Runner takes as a dict."""


def processes(mp_start_method: Literal["fork", "spawn", "forkserver"] = "fork", opencv_num_threads: int = 0) -> None:
    """The keys of `env_cfg.mp_cfg`."""


def loader(
    dataset: Mapping,
    sampler: Mapping | None,
    batch_size: int = 1,
    num_batch_per_epoch: int | None = None,
    generator: None = None,
    disable_subprocess_warning: bool = False,
) -> None:
    """What MMEngine wants of a loader, beside the arguments of torch's DataLoader."""


def scaling(enable: bool = False, base_batch_size: int | None = None) -> None:
    """The keys of `auto_scale_lr`, which MMEngine's Runner takes as a dict."""


# Dotted path of a dict -> what takes its keys where it says no `type`, with what MMEngine itself gives it.
UNTYPED: dict[str, Sequence[Callable]] = {
    **dict.fromkeys(LOADERS, (partial(DataLoader, None), loader)),
    "train_cfg": (partial(IterBasedTrainLoop, None, None),),
    "val_cfg": (partial(ValLoop, None, None, None),),
    "test_cfg": (partial(TestLoop, None, None, None),),
    "randomness": (randomness,),
    "env_cfg": (environment,),
    "env_cfg.mp_cfg": (processes,),
    "log_processor": (LogProcessor,),
    "auto_scale_lr": (scaling,),
    "model.student": (student,),
    "model.student.quantize": (quantize,),
    "model.feature_pairs": (partial(derive_pairs, *4 * [None]),),
}
CLIPPING = "optim_wrapper.clip_grad"
CLIPPED_BY = {"norm": partial(clip_grad_norm_, None), "value": partial(clip_grad_value_, None)}


def untyped(config: Mapping) -> Iterator[tuple[str, Mapping, Parameters]]:
    """The dicts of `config` without a type: the full name of each, the dict and its arguments."""
    for path, takers in UNTYPED.items():
        section = config
        for key in path.split("."):
            section = section.get(key) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and "type" not in section:
            yield path, section, {name: each for taker in takers for name, each in signature_of(taker).items()}
    clip = (config.get("optim_wrapper") or {}).get("clip_grad")
    if isinstance(clip, Mapping):
        kind = clip.get("type", "norm")
        if kind not in CLIPPED_BY:
            raise InputError(f"{CLIPPING}.type={kind!r} is unknown; use 'norm' or 'value'")
        yield CLIPPING, clip, signature_of(CLIPPED_BY[kind])


def parameters_of(kind: Callable, part: Mapping) -> Parameters:
    """The arguments that `kind` takes from a config, those that it hands on to its base classes included."""
    if isinstance(kind, type) and issubclass(kind, DiffusionModel):  # its plan takes them
        own = signature_of(DiffusionModel)["data_preprocessor"]
        return {"data_preprocessor": own, **signature_of(kind.plan_class)}
    if not isinstance(kind, type):
        return signature_of(kind)
    parameters = inherited(kind)
    if issubclass(kind, OptimWrapper):
        return parameters | {"paramwise_cfg": NETWORKS}  # read where the optimizer is built
    if issubclass(kind, _ParamScheduler):
        return parameters | {"convert_to_iter_based": CONVERTED}  # read where it is built
    if issubclass(kind, EMAHook):  # what it does not know it hands to the average
        name = part.get("ema_type", "ExponentialMovingAverage")
        average = mmengine_registry.MODELS.get(name) if isinstance(name, str) else name
        if not callable(average):
            raise InputError(f"ema_type={name!r} is unknown; use ExponentialMovingAverage, MomentumAnnealingEMA or"
                             " StochasticWeightAverage")  # fmt: skip
        more = signature_of(average)
    elif issubclass(kind, CheckpointHook):  # to the Runner's method
        more = signature_of(partial(Runner.save_checkpoint, *3 * [None]))
    else:
        return parameters
    own = {name: each for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}
    return {name: each for name, each in more.items() if name not in ("self", "model")} | own


def inherited(kind: type) -> Parameters:
    """The arguments of a class, and those of the next classes that get what it takes as `**kwargs`."""
    parameters = signature_of(kind)
    constructors = (each for each in kind.__mro__[1:-1] if "__init__" in vars(each))
    for base in constructors:
        keywords = [name for name, each in parameters.items() if each.kind is each.VAR_KEYWORD]
        if not keywords:
            break
        rest = {name: each for name, each in parameters.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
        parameters = signature_of(base) | rest
    return parameters
