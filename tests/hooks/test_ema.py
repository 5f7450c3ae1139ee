"""EMAHook deep-copies the model, and averages its updates; what it does in a run is in test_export_hook.py."""

import copy
import gc
from types import SimpleNamespace

import mmengine.hooks
import pytest
import runs
import torch
from diffusers.training_utils import EMAModel
from mmengine.optim import OptimWrapper
from torch import nn

from diffdistill.config.read import load_config
from diffdistill.registry import HOOKS, MODELS


class One(nn.Module):
    """A single weight, which each iteration of `averages` gives a gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


def averages(hook: mmengine.hooks.EMAHook, counts: int, iterations: int) -> list[float]:
    """The average after every iteration, with an update after `counts` of them: it lowers the weight by 1."""
    model = One()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=counts)
    wrapper.initialize_count_status(model, 0, iterations)
    runner, found = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0, max_iters=iterations), []
    hook.before_run(runner)
    for runner.iter in range(iterations):
        wrapper.update_params(model.weight)
        hook.after_train_iter(runner, runner.iter)
        found.append(hook.ema_model.module.weight.item())
    return found


@pytest.mark.parametrize("kind", ["EMAHook", "TargetEMAHook"])
def test_an_average_takes_every_update_once(kind):
    """-1, -2, -3 with a weight of 0.5 for the new, whether an update has one iteration or three; the last is cut short."""
    expected = [-1.0, -1.5, -2.25]
    assert averages(HOOKS.build(dict(type=kind, momentum=0.5)), 1, 3) == expected
    accumulated = averages(HOOKS.build(dict(type=kind, momentum=0.5)), 3, 8)
    assert accumulated == [0.0, 0.0, -1.0, -1.0, -1.0, -1.5, -1.5, -2.25]


@pytest.mark.parametrize("kind", ["EMAHook", "TargetEMAHook"])
def test_without_accumulation_an_average_is_mmengines(kind):
    options = dict(momentum=0.3, interval=2)
    assert averages(HOOKS.build(dict(type=kind, **options)), 1, 7) == averages(mmengine.hooks.EMAHook(**options), 1, 7)


def test_the_interval_counts_updates():
    assert averages(HOOKS.build(dict(type="EMAHook", momentum=0.5, interval=2)), 2, 6)[1::2] == [-1.0, -1.0, -2.0]


def test_the_average_of_bk_sdm_warms_up_as_its_authors():
    """Their EMAModel has a mean age of 100 after 1,000 updates; a decay of 0.9999 alone makes that 950."""
    config = load_config("bk_sdm_small_distill_from_sd_14_laion_212k")
    hook, counts = HOOKS.build(config.default_hooks.ema), config.optim_wrapper.accumulative_counts
    ours = averages(hook, counts, 1000 * counts)[counts - 1 :: counts]
    weight, theirs = nn.Parameter(torch.zeros(())), []
    average = EMAModel([weight], decay=0.9999)
    for _ in range(1000):
        weight.data -= 1
        average.step([weight])
        theirs.append(average.shadow_params[0].item())
    assert ours == pytest.approx(theirs, abs=0.15)  # of an update: MMEngine's decay is that of the one before
    assert ours[-1] == pytest.approx(-900, abs=0.15)


def test_an_average_copies_the_student_and_shares_its_teacher(thin_sdxl):
    options = dict(pair.split("=") for pair in runs.options(model__teacher__checkpoint=thin_sdxl)[1:])
    distiller = MODELS.build(load_config(runs.SHAPES, options).model)

    def parameters() -> int:
        gc.collect()
        return sum(type(thing) is nn.Parameter for thing in gc.get_objects())

    before = parameters()
    average = copy.deepcopy(distiller)
    assert average.teacher is distiller.teacher
    assert parameters() - before == len(list(distiller.student.parameters()))
