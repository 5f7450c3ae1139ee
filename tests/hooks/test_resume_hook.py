"""Random numbers that follow from the step, and checkpoints that load safely. Whole resumed runs: tests/test_train.py."""

import random

import numpy as np
import pytest
import torch

from diffdistill.engine.seeding import SeededIterator
from diffdistill.errors import InputError
from diffdistill.hooks.resume import check_weights, plain


def draws(iterator, steps: int) -> list:
    """What the three generators give after each step."""
    return [
        (next(iterator), random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002
        for _ in range(steps)
    ]


def test_a_step_draws_the_same_numbers_whatever_was_drawn_before():
    straight = draws(SeededIterator(iter(range(9)), seed=1, rank=0), 4)
    again = SeededIterator(iter(range(9)), seed=1, rank=0)
    next(again)
    torch.rand(1000)
    assert draws(again, 3) == straight[1:]


@pytest.mark.parametrize(("seed", "rank"), [(1, 1), (2, 0)])
def test_ranks_and_seeds_draw_numbers_of_their_own(seed, rank):
    one = draws(SeededIterator(iter(range(9)), seed=1, rank=0), 3)
    other = draws(SeededIterator(iter(range(9)), seed=seed, rank=rank), 3)
    assert not {row[1:] for row in one} & {row[1:] for row in other}


def test_steps_draw_different_numbers():
    assert len({row[3] for row in draws(SeededIterator(iter(range(9)), seed=0, rank=0), 9)}) == 9


def test_plain_values_load_safely(tmp_path):
    value = {"eta": np.float64(1.5), "rows": [(np.int64(2), "x")], "weights": torch.ones(2)}
    torch.save(plain(value), tmp_path / "file.pth")
    loaded = torch.load(tmp_path / "file.pth", weights_only=True)
    assert loaded["eta"] == 1.5
    assert loaded["rows"] == [[2, "x"]]
    assert torch.equal(loaded["weights"], torch.ones(2))


@pytest.mark.parametrize("found", [{}, {"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(3)}])
def test_weights_of_another_student_are_refused(found):
    with pytest.raises(InputError, match=r"x\.pth is not a checkpoint of this config's student: [ab] is"):
        check_weights(found, {"a": torch.ones(2)}, "x.pth")
