"""Random numbers that follow from the number of a step, which is what makes a resumed run exact."""

import random

import numpy as np
import torch


class SeededIterator:
    """Reseeds python, numpy and torch from (seed, rank, n) before batch n: a step depends on its number alone."""

    def __init__(self, iterator, seed: int, rank: int):
        self.iterator, self.seed, self.rank, self.count = iterator, seed, rank, 0

    def __iter__(self):
        return self

    def __next__(self):
        words = np.random.SeedSequence([self.seed, self.rank, self.count]).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])  # noqa: NPY002 (libraries draw from this one)
        torch.manual_seed(int(words[2]))
        self.count += 1
        return next(self.iterator)
