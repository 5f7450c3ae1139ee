"""Fixtures of the families around a transformer."""

from collections.abc import Callable

import pytest
from kinds import KINDS, Loaded


@pytest.fixture(scope="session")
def load(tmp_path_factory) -> Callable[[str], Loaded]:
    """Name of a kind -> its pipeline, written once."""
    found = {}

    def get(name: str) -> Loaded:
        if name not in found:
            found[name] = Loaded.write(name, tmp_path_factory.mktemp("pipelines") / name)
        return found[name]

    return get


@pytest.fixture(params=KINDS)
def loaded(request, load) -> Loaded:
    """A pipeline of each kind."""
    return load(request.param)
