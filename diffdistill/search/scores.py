"""What each layer is worth: the error that leaving it out causes, one call of the denoiser for each batch."""

from collections.abc import Callable

from torch import nn

from diffdistill.search.bypass import layers_of, without
from diffdistill.search.samples import Samples
from diffdistill.search.space import Space
from diffdistill.search.state import State
from diffdistill.students.size import count

ATTENTIONS, LAYERS = "attentions of", "all but the first layers of"


def groups_of(space: Space) -> dict[str, list[str]]:
    """Layers that are also left out together, by what they are called: the attentions of every stage."""
    found = {}
    for name in space.removable:
        stage, inner, number = name.rpartition(".attentions.")
        if inner and number.isdigit():
            found.setdefault(f"{ATTENTIONS} {stage}", []).append(name)
    return found


def number_of_errors(space: Space) -> int:
    """How many errors `score` measures."""
    return len(space.removable) + len(groups_of(space)) + len(space.frames)


def score(
    space: Space, teacher: nn.Module, base: nn.Module, samples: Samples, state: State, done: Callable[[int], None]
) -> None:
    """Note the error of every layer, group of layers and frame; what is known is not measured again.

    A layer is bypassed where it stands: in a real cut, too, its neighbours then meet. A ResNet of a down stage and one of
    its mirror, bypassed together, are exactly the student without them. Stages are left out by building that student.
    """

    def measured(kind: str, name: str, error: Callable[[], float]) -> None:
        if state.known(kind, name) is None:
            state.note(error(), kind, name)
        done(1)

    def bypassed(names: list[str]) -> float:
        with without(base, names):
            return samples.error(base)

    for name in space.removable:
        measured("layer", name, lambda name=name: bypassed([name]))
    for title, names in groups_of(space).items():
        measured("group", title, lambda names=names: bypassed(names))
    for frame in space.frames:
        cut = space.cut(frame.name, space.in_teacher(frame.keep), frame.fresh_allowed)
        if cut is not None:
            measured("stage", frame.name, lambda cut=cut: samples.error(space.student(teacher, cut)))
        else:
            done(1)


def layer_scores(space: Space, state: State) -> dict[str, float]:
    """Layer -> its score, of those that can be left out alone."""
    found = {name: state.known("layer", name) for name in space.removable}
    return {name: value for name, value in found.items() if value is not None}


def frame_scores(space: Space, state: State) -> dict[str, float]:
    """Frame -> its score."""
    return {frame.name: state.known("stage", frame.name) or 0.0 for frame in space.frames}


def rows(space: Space, state: State) -> list[dict]:
    """Every score with the share of the teacher's parameters that it is for, those of stages and groups first."""
    whole = count(space.teacher)
    found = []
    for frame in space.frames:
        if (value := state.known("stage", frame.name)) is not None:
            parameters = sum(count(space.denoiser.get_submodule(module)) for module in frame.dropped)
            found.append(dict(name=frame.name, error=value, parameters=parameters / whole))
    for title, names in groups_of(space).items():
        parameters = sum(count(space.denoiser.get_submodule(name)) for name in names)
        found.append(dict(name=title, error=state.known("group", title), parameters=parameters / whole))
    for name in layers_of(space.denoiser):
        parameters = count(space.denoiser.get_submodule(name)) / whole
        found.append(dict(name=name, error=state.known("layer", name), parameters=parameters))
    return found
