import numpy as np
import pytest

from diffdistill.registry import METRICS
from diffdistill.shapes import world


def samples_of(scenes: world.Scenes, star: bool) -> list[dict]:
    columns = zip(world.draw(scenes), scenes.captions(), scenes.attributes(), strict=True)
    return [
        {"image": image, "caption": "a s", "shows": shows, "seen": not stated.held_out and not star, "star": star}
        for image, shows, stated in columns
    ]


def evaluate(samples: list[dict], batch: int = 7) -> dict:
    metric = METRICS.build({"type": "StarAccuracy"})
    for start in range(0, len(samples), batch):
        metric.process(None, samples[start : start + batch])
    return metric.evaluate(len(samples))


@pytest.fixture
def old():
    return samples_of(world.sample(0, range(40), "all"), star=False)


@pytest.fixture
def stars():
    return samples_of(world.stars(0, range(20)), star=True)


def test_both_kinds_are_counted_apart(old, stars):
    for sample in stars[:5]:  # no star
        sample["image"] = np.zeros_like(sample["image"])
    for sample, other in zip(stars[5:10], reversed(stars), strict=False):  # a star of other colours
        sample["image"] = 255 - other["image"]
    figures = evaluate(old + stars)
    assert (figures["accuracy"], figures["n"], figures["n_star"]) == (100, 40, 20)
    assert (figures["star"], figures["star_accuracy"]) == (75, 50)


def test_a_star_in_the_place_of_another_shape_is_wrong(old):
    scenes = world.sample(0, range(40), "all")
    scenes.shape[:] = world.STAR
    for sample, image in zip(old, world.draw(scenes), strict=True):
        sample["image"] = image
    figures = evaluate(old)
    assert (figures["accuracy"], figures["shape"], figures["n_star"]) == (0, 0, 0)
    assert "star" not in figures
