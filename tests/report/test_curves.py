"""Charts: what is drawn, and where."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

from diffdistill.report.curves import Chart, Line, log_ticks, spread, ticks


def parse(chart: Chart) -> ET.Element:
    return ET.fromstring(str(chart.svg()))


def texts(svg: ET.Element) -> list[str]:
    return [text.text for text in svg.iter("text")]


def points(svg: ET.Element, index: int = 0) -> list[tuple[float, float]]:
    path = [path.get("d") for path in svg.iter("path")][index]
    return [tuple(map(float, pair.split(","))) for pair in re.findall(r"[ML]([\d.,]+)", path)]


def test_a_line_goes_through_its_values():
    svg = parse(Chart("loss", [Line("student", [0, 50, 100], [0, 10, 5])], "%", zero=True))
    (x0, y0), (x1, y1), (x2, y2) = points(svg)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) * 2 == pytest.approx(y0 - y1, abs=0.2)  # up is down in SVG
    assert {"%", "training step", "student", "0", "100"} <= set(texts(svg))
    assert all(float(text.get("x")) + 8 * len(text.text) < 460 for text in svg.iter("text") if "label" in text.get("class"))


def test_a_logarithmic_axis_gives_every_factor_the_same_height():
    svg = parse(Chart("loss", [Line("a", [0, 1, 2], [100, 10, 1])], log=True))
    (_, first), (_, second), (_, third) = points(svg)
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert log_ticks(0.9, 110) == [1, 10, 100]
    assert log_ticks(0.04, 0.3) == [0.05, 0.1, 0.2]


def test_ticks_are_round():
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0, 0.001) == [0, 0.0002, 0.0004, 0.0006, 0.0008, 0.001]
    assert ticks(-3, 21, 4) == [0, 5, 10, 15, 20]


def test_labels_do_not_cover_each_other():
    places = spread([100, 101, 20, 300], 0, 240)
    assert all(abs(a - b) >= 14.99 for i, a in enumerate(places) for b in places[:i])
    assert max(places) <= 240
    assert places[2] == 20


def test_a_gap_breaks_the_line():
    svg = parse(Chart("loss", [Line("", [1, 2, 3, 4], [1, None, 3, 4])]))
    (path,) = svg.iter("path")
    assert path.get("d").count("M") == 2
    assert path.get("class") == "student raw"


def test_levels_boundaries_and_read_out():
    chart = Chart("accuracy", [Line("student", [0, 10], [0, 80])], "%", levels=[("teacher", 99.0, "teacher")])
    chart.boundaries = [(0, "1: <a>"), (5, "stage 2: with a long name")]
    svg = parse(chart)
    assert {"teacher", "1: <a>"} <= set(texts(svg))
    assert any(text.startswith("stage 2: w") and text.endswith("…") for text in texts(svg))
    assert json.loads(svg.get("data-chart"))["lines"] == [dict(name="student", steps=[0, 10], values=[0, 80])]


@pytest.mark.parametrize("values", [[], [None, None], [3.0]])
def test_little_data_is_drawn_too(values):
    assert Chart("loss", [Line("a", list(range(len(values))), values)]).svg()
    assert Chart("loss", [Line("a", list(range(len(values))), values)], zero=True).svg()


@pytest.mark.parametrize(("count", "gaps", "circles"), [(30, 0, 30), (60, 0, 0), (60, 60, 60)])
def test_points_that_no_line_joins_are_always_drawn(count, gaps, circles):
    """A curve of many values is a line; as many points with a gap behind each would be nothing without their circles."""
    steps = [step for step in range(count) for _ in range(1 + bool(gaps))]
    values = [value for step in range(count) for value in ([1.0 + step, None] if gaps else [1.0 + step])]
    assert str(Chart("cuts", [Line("all", steps, values)]).svg()).count("<circle") == circles
