"""Adapters (LoRA and its kin): a few weights that are trained inside a frozen model, by peft."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches

import peft
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from diffdistill.errors import InputError
from diffdistill.registry import ADAPTERS, check_has_type

for _config in (peft.LoraConfig, peft.LoHaConfig, peft.LoKrConfig, peft.OFTConfig):
    ADAPTERS.register_module(module=_config)

# First values of a LoRA that leave the weights of its base alone; those that peft calls pissa, olora, ... change them.
FIRST_VALUES = (True, False, "gaussian", "orthogonal")


STUDENT = "default"  # the adapter that is trained as the student; critics are named as they are in `model.critics`


def inject(model: nn.Module, adapter: Mapping, where: str, name: str = STUDENT) -> nn.Module:
    """Put an adapter into `model`, which is frozen by that; the adapter's own weights are in fp32.

    Args:
        adapter: a config of peft, e.g. `dict(type="LoraConfig", r=8, target_modules=["to_q", "to_v"])`.
        where: the key of the run's config that holds it, for errors.
        name: of the adapter. The student's is the one that is on; `adapter_on` turns on another.

    Raises InputError for what peft refuses, for target modules that `model` has not, and for a config that would train
    weights of `model` itself.
    """
    check_has_type(adapter, where)
    check_targets(model, adapter.get("target_modules"), where)
    if (first := adapter.get("init_lora_weights", True)) not in FIRST_VALUES:
        raise InputError(
            f"{where}.init_lora_weights={first!r} would change the weights of the base;"
            f" choose one of {', '.join(map(repr, FIRST_VALUES))}"
        )
    try:
        config = ADAPTERS.build(dict(adapter))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")  # of the student's
            peft.inject_adapter_in_model(config, model, adapter_name=name)
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{where} ({adapter['type']}): {' '.join(str(error).split())}") from error
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    for path, parameter in trainable(model).items():
        if prefix not in path:
            raise InputError(f"{where} would train {path} of the base; leave out bias and modules_to_save")
        parameter.data = parameter.data.float()
    if name != STUDENT:  # peft has turned it on and the student's off, and freezes those that are off
        for layer in adapter_layers(model).values():
            layer.set_adapter(STUDENT)
        for parameter in adapter_parameters(model, name).values():
            parameter.requires_grad_(not config.inference_mode)
    return model


def check_targets(model: nn.Module, targets, where: str) -> None:
    """Raise InputError for an entry of `target_modules` that is the end of no module's name; peft would leave it out."""
    if not targets:
        raise InputError(f"{where}.target_modules is missing; name the modules to adapt by the ends of their names")
    if isinstance(targets, str):  # a regular expression, or "all-linear": peft complains by itself
        return
    names = [name for name, _ in model.named_modules() if name]
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            ends = {".".join(name.split(".")[-target.count(".") - 1 :]) for name in names}
            near = ", ".join(get_close_matches(target, ends, n=3, cutoff=0.0))
            raise InputError(
                f"{where}.target_modules: {target!r} matches no module of the {type(model).__name__}; the nearest: {near}"
            )


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that have gradients, by name: of a frozen model with an adapter, the adapter's."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapter_parameters(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of the adapter `name` of a model, by their own names, which hold that of the adapter."""
    return {path: parameter for path, parameter in model.named_parameters() if name in path.split(".")}


def parameter_tree(parameters: Mapping[str, nn.Parameter]) -> nn.Module:
    """Plain modules that hold the very `parameters` under their names.

    In the module tree it stands for an adapter, whose model is kept out of that tree: what is saved, averaged, optimised or
    synchronised is the adapter alone, and the model that runs sees every change.
    """
    tree = nn.Module()
    for name, parameter in parameters.items():
        module, *path, leaf = tree, *name.split(".")
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        module.register_parameter(leaf, parameter)
    return tree


def adapter_tree(model: nn.Module, adapter: Mapping, where: str, name: str = STUDENT) -> nn.Module:
    """Put an adapter into `model` and return modules that hold the adapter's weights alone."""
    trained = adapter_parameters(inject(model, adapter, where, name), name)
    return parameter_tree({path: parameter for path, parameter in trained.items() if parameter.requires_grad})


def adapter_layers(model: nn.Module) -> dict[str, BaseTunerLayer]:
    """The layers that peft has put in the place of others, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def train_adapters(model: nn.Module, mode: bool) -> None:
    """Put dropout inside adapters into train mode, or eval mode; everything else in `model` is frozen and stays as it is."""
    for layer in adapter_layers(model).values():
        base = layer.get_base_layer()
        training = base.training
        layer.train(mode)
        base.train(training)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the block `model` computes what it did without its adapters; those that were off already stay off."""
    layers = [layer for layer in adapter_layers(model).values() if not layer.disable_adapters]
    trained = trainable(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield model
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter in trained:  # also of adapters that are not the one that is on now
            parameter.requires_grad_()


@contextmanager
def adapter_on(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """Inside the block `model` computes with its adapter of that name instead of the one that is on."""
    layers = adapter_layers(model).values()
    before, trained = [layer.active_adapters for layer in layers], trainable(model).values()
    try:
        for layer in layers:
            layer.set_adapter(name)
        for parameter in trained:  # peft freezes what it turns off, and what it has given to the student was for backward
            parameter.requires_grad_()
        yield model
    finally:
        for layer, names in zip(layers, before, strict=True):
            layer.set_adapter(names)
        for parameter in trained:
            parameter.requires_grad_()


def same_adapters(model: nn.Module, contexts: Callable[[], tuple]) -> Callable[[], tuple]:
    """For `recompute`: `contexts` in which a block of `model` also runs again with the adapter that it ran with.

    By then, in backward, another one may be on.
    """

    def both() -> tuple:
        forward, again = contexts()
        layer = next(iter(adapter_layers(model).values()))
        return forward, both_of(again, adapter_on(model, layer.active_adapters[0]))

    return both


@contextmanager
def both_of(outer, inner) -> Iterator[None]:
    """The two contexts as one."""
    with outer, inner:
        yield


def take_out(model: nn.Module, fuse: bool) -> nn.Module:
    """`model` with its own layers in the place of peft's again; with `fuse`, the adapters are added to their weights."""
    for name, layer in adapter_layers(model).items():
        if fuse:
            layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    vars(model).pop("peft_config", None)
    return model
