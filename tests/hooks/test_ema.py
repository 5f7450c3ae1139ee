"""MMEngine's EMAHook deep-copies the model; what it does in a run is in test_export_hook.py."""

import copy
import gc

import runs
from torch import nn

from diffdistill.config.read import load_config
from diffdistill.registry import MODELS


def test_an_average_copies_the_student_and_shares_its_teacher(tiny_sdxl):
    options = dict(pair.split("=") for pair in runs.options(model__teacher__checkpoint=tiny_sdxl)[1:])
    distiller = MODELS.build(load_config(runs.SHAPES, options).model)

    def parameters() -> int:
        gc.collect()
        return sum(isinstance(thing, nn.Parameter) for thing in gc.get_objects())

    before = parameters()
    average = copy.deepcopy(distiller)
    assert average.teacher is distiller.teacher
    assert parameters() - before == len(list(distiller.student.parameters()))
