import numpy as np
import pytest

from diffdistill.errors import InputError
from diffdistill.registry import METRICS
from diffdistill.shapes import world


def evaluate(samples: list[dict], batch: int = 7) -> dict:
    metric = METRICS.build({"type": "CaptionAccuracy"})
    for start in range(0, len(samples), batch):
        metric.process(None, samples[start : start + batch])
    return metric.evaluate(len(samples))


def samples_of(scenes: world.Scenes) -> list[dict]:
    columns = zip(world.draw(scenes), scenes.captions(), scenes.attributes(), strict=True)
    return [{"image": image, "caption": caption, "seen": not stated.held_out} for image, caption, stated in columns]


def test_real_pictures_score_100():
    figures = evaluate(samples_of(world.sample(0, range(100), "all")))
    assert figures.pop("n") == 100
    assert set(figures) == {"accuracy", "seen", "held_out", "shape", "colour", "background", "size", "position"}
    assert set(figures.values()) == {100}


def test_seen_and_held_out_are_counted_apart():
    seen, held_out = samples_of(world.sample(0, range(30), "seen")), samples_of(world.sample(0, range(10), "held_out"))
    for sample in held_out[:5]:
        sample["image"] = np.zeros_like(sample["image"])
    figures = evaluate(seen + held_out)
    assert (figures["seen"], figures["held_out"], figures["accuracy"]) == (100, 50, 87.5)


def test_the_position_is_counted_where_it_is_stated():
    samples = samples_of(world.sample(0, range(40)))
    stated = [sample for sample in samples if world.parse(sample["caption"]).position is not None]
    for sample in stated:
        sample["image"] = np.zeros_like(sample["image"])
    assert 0 < len(stated) < 40
    assert evaluate(samples)["position"] == 0


def test_a_figure_of_no_picture_is_left_out():
    assert "held_out" not in evaluate(samples_of(world.sample(0, range(4), "seen")))


def test_a_caption_of_another_world_is_refused():
    sample = samples_of(world.sample(0, [0]))[0]
    with pytest.raises(InputError, match="a photo of a dog"):
        evaluate([{**sample, "caption": "a photo of a dog"}])


def test_a_picture_of_another_size_is_refused():
    sample = samples_of(world.sample(0, [0]))[0]
    with pytest.raises(InputError, match=r"\(64, 64, 3\)"):
        evaluate([{**sample, "image": np.zeros((64, 64, 3), np.uint8)}])
