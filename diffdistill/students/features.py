"""Feature pairs, derived: which teacher layer each student layer is compared with, and how both are recorded."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffdistill.errors import InputError
from diffdistill.students.cut import LayerMap, build_on_meta, config_key, path_matches
from diffdistill.students.denoisers.rules import RULES, rules_of

PICTURE = "picture"  # the stream that is meant where none is named
Shapes = dict[str, tuple[int, ...]]


def split_stream(layer: str) -> tuple[str, str]:
    """The module and the stream that the name of a layer means, such as "transformer_blocks.3:text"."""
    module, _, stream = layer.partition(":")
    return module, stream or PICTURE


def layer_matches(pattern: str, layer: str) -> bool:
    """Whether a layer fits a pattern: the module's path part by part, and the stream exactly."""
    (wanted, stream), (path, own) = split_stream(pattern), split_stream(layer)
    return stream == own and path_matches(wanted, path)


def streams_of(denoiser_class: type, module: str) -> tuple[str, ...]:
    """The streams that a module of a denoiser returns, in their order; () for one that returns a single feature."""
    rules = RULES.get(denoiser_class.__name__)
    found = (streams for pattern, streams in rules.streams.items() if path_matches(pattern, module)) if rules else ()
    return next(iter(found), ())


def feature_of(output, streams: Sequence[str] = (), stream: str = PICTURE) -> Tensor | None:
    """The feature in what a layer returns: a tensor, or a tuple or diffusers output that begins with one.

    Of a layer that returns several `streams`, the one that is asked for.
    """
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    if isinstance(output, (tuple, list)):
        place = streams.index(stream) if streams else 0
        output = output[place] if output else None
    return output if isinstance(output, Tensor) else None


class FeatureTaps:
    """Records the outputs of `layers` of `model`, inside a `with taps.record() as features:` block only.

    A layer is the path of a module, and of one that returns several streams "path:stream"; without, the picture's.

    Backward under gradient checkpointing recomputes the forward; the hooks are gone by then, so nothing is recorded twice,
    and no feature is kept here after the block.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]):
        self.modules = {layer: model.get_submodule(split_stream(layer)[0]) for layer in layers}
        self.streams = {layer: streams_of(type(model), split_stream(layer)[0]) for layer in layers}

    @contextmanager
    def record(self) -> Iterator[dict[str, Tensor]]:
        """Record outputs inside the block: the dict, layer -> feature, fills while the model runs."""
        features: dict[str, Tensor] = {}

        def hook(layer):
            def keep(module, inputs, output):
                features[layer] = feature_of(output, self.streams[layer], split_stream(layer)[1])

            return keep

        handles = [module.register_forward_hook(hook(layer)) for layer, module in self.modules.items()]
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def record_inputs(model: nn.Module, modules: Sequence[str]) -> Iterator[dict[str, tuple[tuple, dict]]]:
    """Record inside the block what `modules` of `model` are called with: module -> (args, keyword args)."""
    seen: dict[str, tuple[tuple, dict]] = {}

    def hook(name):
        def keep(module, args, kwargs):
            seen[name] = args, kwargs

        return keep

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name), with_kwargs=True) for name in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def recovering(pairs: Sequence[tuple[str, str]], layers: LayerMap) -> list[tuple[str, str]]:
    """The pairs (student layer, teacher layer) that end behind the layer which the student's was copied from."""
    return [(ours, theirs) for ours, theirs in pairs if layers.to_teacher(ours) != theirs]


def trace(denoiser_class: type, config: Mapping, size: int | None = None) -> Shapes:
    """Output shape of every layer in the order in which layers finish, from one forward pass on the meta device.

    Of a layer with several streams each is an entry, "path:stream", the picture's without a name.
    """
    return dict(pass_on_meta(build_on_meta(denoiser_class, config).eval(), size)[0])


def pass_on_meta(denoiser: nn.Module, size: int | None = None) -> tuple[Shapes, dict]:
    """The trace of a denoiser of `build_on_meta`, and the FLOPs of each kind of operation.

    One call with batch 1 on square latents `size` wide, by default of its native resolution.
    """
    kind = type(denoiser)
    return _pass_on_meta(kind, config_key(kind, denoiser.config), size or rules_of(kind).latent_size(denoiser.config))


@functools.cache  # a second or two for a large denoiser: the check, the model, the report and the summary all ask
def _pass_on_meta(denoiser_class: type, config_json: str, size: int) -> tuple[Shapes, dict]:
    denoiser = build_on_meta(denoiser_class, json.loads(config_json)).eval()
    counter = FlopCounterMode(display=False)
    names = [name for name, _ in denoiser.named_modules() if name]
    others = (f"{name}:{stream}" for name in names for stream in streams_of(denoiser_class, name) if stream != PICTURE)
    taps = FeatureTaps(denoiser, [*names, *others])
    with torch.device("meta"), torch.no_grad(), counter, taps.record() as features:
        denoiser(**rules_of(type(denoiser)).inputs(denoiser.config, size))
    shapes = {name: tuple(feature.shape) for name, feature in features.items() if feature is not None}
    return shapes, counter.get_flop_counts()["Global"]


def pair_layers(
    student: Shapes,
    teacher: Shapes,
    layers: LayerMap,
    patterns: Sequence[str],
    rule: str = "next",
    pairs: Mapping[str, str | None] | None = None,
) -> list[tuple[str, str]]:
    """Feature pairs (student layer, teacher layer), in the order in which the student runs.

    Args:
        student, teacher: traces of the two denoisers.
        patterns: which layers count.
        rule: "same": the teacher layer that the student's was copied from. "next": the last teacher layer before the next
            kept one, so that each layer learns to hand its successor what that successor saw in the teacher.
        pairs: pairs chosen by hand, student -> teacher, before those of the rule; None removes the student's layer.

    Raises InputError for a layer that does not exist and for two features of different shapes.
    """
    result = named_pairs(student, teacher, layers, patterns, rule, pairs)
    for ours, theirs in result:
        if student[ours] != teacher[theirs]:
            raise InputError(
                f"feature_pairs: {ours} {student[ours]} and the teacher's {theirs} {teacher[theirs]} differ in shape;"
                f" pair {ours!r} by hand in feature_pairs.pairs, or remove it with None"
            )
    return result


def named_pairs(
    student: Shapes,
    teacher: Shapes,
    layers: LayerMap,
    patterns: Sequence[str],
    rule: str = "next",
    pairs: Mapping[str, str | None] | None = None,
) -> list[tuple[str, str]]:
    """The pairs of `pair_layers`, whatever their shapes. Raises InputError for a layer that does not exist."""
    if rule not in ("same", "next"):
        raise InputError(f"feature_pairs.rule {rule!r} is unknown; expected 'same' or 'next'")
    matched = [[name for name in names if any(layer_matches(p, name) for p in patterns)] for names in (student, teacher)]
    student_layers, teacher_layers = matched
    if not student_layers:
        raise InputError(f"feature_pairs.level {list(patterns)} matches no layer of the student")

    found = {name: layers.to_teacher(name) for name in student_layers}
    if rule == "next":
        for stream in {split_stream(name)[1] for name in found}:
            ours = {name: origin for name, origin in found.items() if split_stream(name)[1] == stream}
            found |= interval_ends(ours, [name for name in teacher_layers if split_stream(name)[1] == stream])
    found.update(pairs or {})

    order = {name: position for position, name in enumerate(student)}
    result = [(ours, theirs) for ours, theirs in found.items() if theirs is not None]
    result.sort(key=lambda pair: order.get(pair[0], -1))
    for ours, theirs in result:
        for name, names, owner in ((ours, student, "student"), (theirs, teacher, "teacher")):
            if name not in names:
                near = ", ".join(get_close_matches(name, names, n=3, cutoff=0.0))
                raise InputError(f"feature_pairs: the {owner} has no layer {name!r}; the nearest: {near}")
    return result


def interval_ends(origins: Mapping[str, str], teacher_layers: Sequence[str]) -> dict[str, str]:
    """Student layer -> the last of `teacher_layers` before the next that is kept; `origins`: the one it was copied from."""
    starts = sorted(teacher_layers.index(origin) for origin in origins.values())
    ends = dict(zip(starts, [*(start - 1 for start in starts[1:]), len(teacher_layers) - 1], strict=True))
    return {name: teacher_layers[ends[teacher_layers.index(origin)]] for name, origin in origins.items()}


def derive_pairs(
    denoiser_class: type,
    student_config: Mapping,
    teacher_config: Mapping,
    layers: LayerMap,
    level: str | Sequence[str] = "layers",
    rule: str = "next",
    pairs: Mapping[str, str | None] | None = None,
    size: int | None = None,
) -> list[tuple[str, str]]:
    """Feature pairs of a student and its teacher, from their configs alone; see `pair_layers`.

    `level` says which layers count: "layers" (of a UNet every ResNet and attention, of a transformer every block), "blocks"
    (whole stages), or patterns; "transformer_blocks.*:text" means what blocks of two streams hand on of the text.
    """
    student, teacher = (trace(denoiser_class, config, size) for config in (student_config, teacher_config))
    return pair_layers(student, teacher, layers, patterns_of(denoiser_class, level), rule, pairs)


def unlike_layers(
    denoiser_class: type,
    student_config: Mapping,
    teacher_config: Mapping,
    layers: LayerMap,
    level: str | Sequence[str] = "layers",
    rule: str = "next",
    pairs: Mapping[str, str | None] | None = None,
    size: int | None = None,
) -> list[str]:
    """The student's layers whose partner, by the arguments of `derive_pairs`, has a feature of another shape.

    Where a whole stage has gone, the partner of the last layer before it may be in that stage.
    """
    student, teacher = (trace(denoiser_class, config, size) for config in (student_config, teacher_config))
    named = named_pairs(student, teacher, layers, patterns_of(denoiser_class, level), rule, pairs)
    return [ours for ours, theirs in named if student[ours] != teacher[theirs]]


def patterns_of(denoiser_class: type, level: str | Sequence[str]) -> Sequence[str]:
    """The patterns of the layers that `level` names; see `derive_pairs`."""
    rules = rules_of(denoiser_class)
    return {"layers": rules.layers, "blocks": rules.blocks}.get(level, [level]) if isinstance(level, str) else level
