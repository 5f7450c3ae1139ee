"""One optimizer for several networks, each with settings of its own."""

import inspect
from collections.abc import Collection, Mapping

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from torch import nn

from diffdistill.errors import InputError
from diffdistill.registry import OPTIM_WRAPPERS

STUDENT = "student"


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PerNetwork:
    """Makes a group of parameters for the student and one for each of its critics.

    `paramwise_cfg` maps the name of a network ("student" or a critic's) to what differs from `optim_wrapper.optimizer`, such
    as `dict(lr=5e-4, betas=(0.0, 0.99))`, and to a `max_norm` of its gradients instead of that in `clip_grad`. Gradients
    are clipped network by network.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.wrapper, self.networks = dict(optim_wrapper_cfg), dict(paramwise_cfg or {})
        self.optimizer = dict(self.wrapper.pop("optimizer"))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The wrapper of an optimizer of all that `model`, or the model in it, trains."""
        model = getattr(model, "module", model)
        networks = {STUDENT: model.trained, **model.critics}
        check_networks(self.networks, networks)
        groups = [
            dict(params=list(network.parameters()), network=name, **self.networks.get(name, {}))
            for name, network in networks.items()
        ]
        if not model.critics and not self.networks:
            groups = list(model.parameters())
        kind = self.optimizer["type"]
        kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
        first = next(iter(inspect.signature(kind).parameters))
        optimizer = OPTIMIZERS.build({**self.optimizer, first: groups})
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **self.wrapper, "optimizer": optimizer})


def check_networks(given: Mapping[str, Mapping], known: Collection[str], settings: Collection[str] | None = None) -> None:
    """Raise InputError for a network that is not `known`, or for one of its settings that is none of `settings`."""
    where = "optim_wrapper.paramwise_cfg"
    for name, section in given.items():
        if name not in known:
            raise InputError(f"{where}.{name}: this run trains no such network; it trains {', '.join(known)}")
        for key in section if settings else ():
            if key not in settings:
                raise InputError(f"{where}.{name}.{key} is no setting of the optimizer; it has {', '.join(settings)}")
        if section.get("max_norm", 1) <= 0:
            raise InputError(f"{where}.{name}.max_norm={section['max_norm']!r}: give a number above 0")
