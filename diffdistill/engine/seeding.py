"""Random numbers that follow from the number of a step, which is what makes a resumed run exact."""

import random

import numpy as np
import torch


def reseed(*words: int) -> None:
    """Seed python, numpy and torch from `words`, such as (seed, rank, n) before batch n: it depends on these alone."""
    drawn = np.random.SeedSequence(words).generate_state(3)
    random.seed(int(drawn[0]))
    np.random.seed(drawn[1])  # noqa: NPY002 (libraries draw from this one)
    torch.manual_seed(int(drawn[2]))
