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
from diffdistill.students.denoisers import rules_of

Shapes = dict[str, tuple[int, ...]]


def first_tensor(output) -> Tensor | None:
    """The feature of a layer that returns a tensor, or a tuple or diffusers output that begins with one."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    if isinstance(output, (tuple, list)):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None


class FeatureTaps:
    """Records the outputs of `layers` of `model`, inside a `with taps.record() as features:` block only.

    Backward under gradient checkpointing recomputes the forward; the hooks are gone by then, so nothing is recorded twice,
    and no feature is kept here after the block.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]):
        self.modules = {layer: model.get_submodule(layer) for layer in layers}

    @contextmanager
    def record(self) -> Iterator[dict[str, Tensor]]:
        """Record outputs inside the block: the dict, layer -> feature, fills while the model runs."""
        features: dict[str, Tensor] = {}

        def hook(layer):
            def keep(module, inputs, output):
                features[layer] = first_tensor(output)

            return keep

        handles = [module.register_forward_hook(hook(layer)) for layer, module in self.modules.items()]
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()


def trace(denoiser_class: type, config: Mapping, size: int | None = None) -> Shapes:
    """Output shape of every layer in the order in which layers finish, from one forward pass on the meta device."""
    return dict(pass_on_meta(build_on_meta(denoiser_class, config).eval(), size)[0])


def pass_on_meta(denoiser: nn.Module, size: int | None = None) -> tuple[Shapes, dict]:
    """The trace of a denoiser of `build_on_meta`, and the FLOPs of each kind of operation.

    One call with batch 1 on square latents `size` wide, by default of its native resolution.
    """
    kind = type(denoiser)
    return _pass_on_meta(kind, config_key(kind, denoiser.config), size or denoiser.config["sample_size"])


@functools.cache  # a second or two for a large denoiser: the check, the model, the report and the summary all ask
def _pass_on_meta(denoiser_class: type, config_json: str, size: int) -> tuple[Shapes, dict]:
    denoiser = build_on_meta(denoiser_class, json.loads(config_json)).eval()
    counter = FlopCounterMode(display=False)
    taps = FeatureTaps(denoiser, [name for name, _ in denoiser.named_modules() if name])
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
    if rule not in ("same", "next"):
        raise InputError(f"feature_pairs.rule {rule!r} is unknown; expected 'same' or 'next'")
    matched = [[name for name in names if any(path_matches(p, name) for p in patterns)] for names in (student, teacher)]
    student_layers, teacher_layers = matched
    if not student_layers:
        raise InputError(f"feature_pairs.level {list(patterns)} matches no layer of the student")

    found = {name: layers.to_teacher(name) for name in student_layers}
    if rule == "next":
        starts = sorted(teacher_layers.index(origin) for origin in found.values())
        ends = dict(zip(starts, [*(start - 1 for start in starts[1:]), len(teacher_layers) - 1], strict=True))
        found = {name: teacher_layers[ends[teacher_layers.index(origin)]] for name, origin in found.items()}
    found.update(pairs or {})

    order = {name: position for position, name in enumerate(student)}
    result = [(ours, theirs) for ours, theirs in found.items() if theirs is not None]
    result.sort(key=lambda pair: order.get(pair[0], -1))
    for ours, theirs in result:
        for name, names, owner in ((ours, student, "student"), (theirs, teacher, "teacher")):
            if name not in names:
                near = ", ".join(get_close_matches(name, names, n=3, cutoff=0.0))
                raise InputError(f"feature_pairs: the {owner} has no layer {name!r}; the nearest: {near}")
        if student[ours] != teacher[theirs]:
            raise InputError(
                f"feature_pairs: {ours} {student[ours]} and the teacher's {theirs} {teacher[theirs]} differ in shape;"
                f" pair {ours!r} by hand in feature_pairs.pairs, or remove it with None"
            )
    return result


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

    `level` says which layers count: "layers" (every ResNet and attention), "blocks" (whole stages), or patterns.
    """
    rules = rules_of(denoiser_class)
    patterns = {"layers": rules.layers, "blocks": rules.blocks}.get(level, [level]) if isinstance(level, str) else level
    student, teacher = (trace(denoiser_class, config, size) for config in (student_config, teacher_config))
    return pair_layers(student, teacher, layers, patterns, rule, pairs)
