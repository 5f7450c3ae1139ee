"""The protocol of a figure: all that must be equal before two figures may stand in one table.

A record of a validation, `dict(model, step, **figures)`, carries it as `protocol`: what decides the pictures, and under
`metrics` for every metric the names of its `figures` and its own settings.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from diffdistill.errors import InputError
from diffdistill.models.base import DiffusionModel

Item = TypeVar("Item")


def sampling_settings(model: DiffusionModel) -> dict:
    """Scheduler, steps, guidance scale, resolution (height, width) and whatever else the config gives the sampler.

    Where a method trains its student for a sampler of its own, that is `student_sampling`, in the teacher's record too.
    """
    scheduler, options = model.scheduler(teacher=True)
    pipeline = model.family.assemble(model.frozen.pipeline, model.student)
    defaults = inspect.signature(type(pipeline).__call__).parameters
    own, native = model.family.call_options, model.family.native_size
    settings = dict(
        scheduler=type(scheduler).__name__,
        steps=options.pop("num_inference_steps", defaults["num_inference_steps"].default),
        guidance_scale=options.pop("guidance_scale", own.get("guidance_scale", defaults["guidance_scale"].default)),
        resolution=[options.pop("height", None) or native, options.pop("width", None) or native],
        **options,
    )
    if isinstance(chosen := {**model.sampling, **model.asked}.get("scheduler"), Mapping):
        settings["scheduler_options"] = {key: value for key, value in chosen.items() if key != "type"}
    if model.student_sampling:
        settings["student_sampling"] = {**model.student_sampling, **model.asked}
    return settings


def protocol_of_loop(model: DiffusionModel, loop) -> dict:
    """The protocol of the figures that MMEngine's validation or test `loop` has just measured."""
    dataset, metrics = loop.dataloader.dataset, {}
    for metric in loop.evaluator.metrics:
        name = "/".join(filter(None, (metric.prefix, type(metric).__name__)))
        settings = metric.settings() if hasattr(metric, "settings") else {}
        metrics[name] = dict(figures=getattr(metric, "figures", []), **settings)
    captions = getattr(dataset, "protocol", dict(captions=type(dataset).__name__))
    return dict(n=len(dataset), **captions, **sampling_settings(model), metrics=metrics)


def protocol_of(record: Mapping, figure: str) -> dict:
    """The protocol of one figure of a record, flat; {} where the record carries none."""
    whole = dict(record.get("protocol") or {})
    for name, settings in whole.pop("metrics", {}).items():
        if figure in settings["figures"]:
            return dict(metric=name, **whole, **{key: value for key, value in settings.items() if key != "figures"})
    return whole


def check_same(records: Sequence[Mapping], figure: str) -> dict:
    """The one protocol of `figure` in all `records`. Raises InputError, naming the setting, where they differ."""
    protocols = [protocol_of(record, figure) for record in records]
    for protocol in protocols[1:]:
        for key in sorted(protocol.keys() | protocols[0].keys()):
            if (one := protocols[0].get(key)) != (other := protocol.get(key)):
                raise InputError(f"{figure}: figures of {key}={one!r} and {key}={other!r} cannot stand in one table")
    return protocols[0] if protocols else {}


def split(items: Iterable[Item], protocol: Callable[[Item], dict]) -> list[tuple[dict, list[Item]]]:
    """`items` in groups of one protocol each, in the order in which the protocols first come."""
    groups: list[tuple[dict, list[Item]]] = []
    for item in items:
        own = protocol(item)
        members = next((members for other, members in groups if other == own), None)
        if members is None:
            groups.append((own, [item]))
        else:
            members.append(item)
    return groups


def describe_sampling(protocol: Mapping) -> str:
    """One line: "256 shapes captions, seed 0; DDIMScheduler, 12 steps, guidance scale 3; 32 x 32 pixels"."""
    if "n" not in protocol:
        return "protocol unknown"
    known = ("n", "captions", "seed", "scheduler", "steps", "guidance_scale", "resolution", "metrics", "metric")
    height, width = protocol["resolution"]
    seed = f", seed {protocol['seed']}" if "seed" in protocol else ""
    scale = protocol["guidance_scale"]  # None for Qwen-Image, which says its true_cfg_scale
    guided = "" if scale is None else f", guidance scale {scale:g}"
    parts = [
        f"{protocol['n']} {protocol['captions']}{seed}",
        f"{protocol['scheduler']}, {protocol['steps']} steps{guided}",
        f"{height} x {width} pixels",
        *describe_settings({key: value for key, value in protocol.items() if key not in known}),
    ]
    return "; ".join(parts)


def describe_settings(settings: Mapping) -> list[str]:
    """A text "key value" for each of the `settings` of a metric, but for the names of its figures."""
    return [f"{key} {value}" for key, value in settings.items() if key != "figures"]
