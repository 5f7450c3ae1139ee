"""Seconds of candidates beside their teacher, by the code of `benchmark inference`."""

from collections.abc import Iterator, Sequence

from torch import nn

from diffdistill.benchmarks.candidates import Candidate
from diffdistill.benchmarks.inference import choose_protocol, measure_inference
from diffdistill.search.space import Cut, Space

TOGETHER = 4  # students in memory at once, beside the teacher


def measure_seconds(space: Space, cuts: Sequence[Cut], teacher: nn.Module, whole: float) -> Iterator[None]:
    """Note under "seconds" of every cut what a call of it takes where one of the teacher takes `whole`.

    A few at a time run in turn with the teacher, and the median ratio to it counts, so that a busy machine slows all alike.
    Yields after each few.
    """
    protocol = choose_protocol(device=next(teacher.parameters()).device.type, dtype="float32", parts=("step",))
    for start in range(0, len(cuts), TOGETHER):
        few = cuts[start : start + TOGETHER]
        students = {str(number): space.student(teacher, cut) for number, cut in enumerate(few)}
        entries = [
            Candidate(name, model, None, "checkpoint", space.family) for name, model in {"": teacher, **students}.items()
        ]
        rows = measure_inference(entries, protocol)
        for cut, row in zip(few, rows[1:], strict=True):
            cut.cost["seconds"] = whole / row["step_speedup"]
        yield
