"""What a search has found so far, on disk, so that it goes on where it was stopped."""

import hashlib
import json
from pathlib import Path

from diffdistill.errors import InputError
from diffdistill.files import read_json, write_text_whole
from diffdistill.search.space import Space


class State:
    """Figures by name, written after each: scores of layers, errors of cuts, and what trainings have led to.

    Those of another teacher, other samples or another seed have other names, so searches of several budgets may share a
    folder, and each finds what the others have measured.
    """

    def __init__(self, folder: Path, about: dict):
        self.file = folder / "figures.json"
        self.about = hashlib.sha1(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:8]
        try:
            self.figures = read_json(self.file)
        except InputError:
            self.figures = {}

    def known(self, *name: str):
        """The figure of that name, or None."""
        return self.figures.get(self.key(name))

    def note(self, value, *name: str):
        """Note a figure; returns it."""
        self.figures[self.key(name)] = value
        write_text_whole(self.file, json.dumps(self.figures, indent=1) + "\n")
        return value

    def key(self, name: tuple[str, ...]) -> str:
        """The name as one text."""
        return " ".join([self.about, *name])


def about(space: Space, samples: int, seed: int) -> dict:
    """All that scores depend on."""
    model, data = space.config.model, space.config.train_dataloader
    return dict(
        teacher=model.teacher, space=space.base, sampling=model.get("sampling"), data=data, samples=samples, seed=seed,
        first_weights=space.plan.first_weights,
    )  # fmt: skip
