"""Curves of a run that was stopped and resumed, made small and made smooth."""

import json
import math

import numpy as np
import pytest

from diffdistill.report.history import extend, join, read_scalars, smooth, thin_curve


def test_a_thinned_curve_keeps_means_and_its_last_step():
    curve = thin_curve(range(1, 1001), np.arange(1, 1001), 100)
    assert len(curve[0]) == 100
    assert curve[0][-1] == 1000
    assert curve[1][0] == pytest.approx(np.arange(1, 11).mean())
    assert thin_curve([1, 2, 3], [5, 6, 7], 100) == [[1, 2, 3], [5, 6, 7]]


def test_what_is_not_finite_leaves_a_gap_and_no_trace():
    steps, values = thin_curve(range(1, 7), [1, math.nan, math.inf, math.nan, 4, 6], 3)
    assert steps == [2, 4, 6]
    assert values == [1, None, 5]
    assert smooth([2.0, None, 4.0], 3) == [2.0, None, 4.0]


def test_smoothing_is_the_mean_around_a_point():
    line = [float(i) for i in range(20)]
    assert smooth(line, 5)[:10] == line[:10]  # a straight line stays itself, also at its beginning
    noisy = smooth([0.0, 1.0] * 50, 11)
    assert np.std(noisy[10:-10]) < 0.1
    assert smooth([0.0, 0.0, 9.0, 0.0, 0.0], 3) == [0, 3, 3, 3, 0]


def test_a_resumed_run_replaces_the_steps_that_it_does_again():
    killed = {"loss": [[10, 20, 30, 40], [4.0, 3.0, 9.0, 9.0]], "lr": [[10, 20, 30, 40], [1, 1, 1, 1]]}
    resumed = {"loss": [[30, 40, 50], [2.0, 1.0, 0.5]]}
    joined = join(killed, resumed)
    assert joined["loss"] == [[10, 20, 30, 40, 50], [4.0, 3.0, 2.0, 1.0, 0.5]]
    assert joined["lr"] == [[10, 20], [1, 1]]
    assert join(resumed, {"loss": [[10], [7.0]]})["loss"] == [[10], [7.0]]  # started afresh
    assert join({}, killed) == killed


def test_what_was_logged_after_the_last_record_is_added():
    history = {"loss": [[1, 2, 3], [3.0, 2.0, 1.0]]}
    logged = {"loss": [[2, 4], [2.5, 0.5]], "memory": [[2, 4], [70, 71]]}
    assert extend(history, logged) == {"loss": [[1, 2, 3, 4], [3.0, 2.0, 1.0, 0.5]], "memory": [[2, 4], [70, 71]]}


def test_scalars_of_mmengine(tmp_path):
    rows = [
        dict(accuracy=99.0, step=0),  # a validation
        dict(loss=2.0, lr=0.1, iter=10, step=10),
        dict(loss=math.nan, lr=0.1, iter=20, step=20),
    ]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"loss": 1.0, "it'  # killed in the middle of a line
    (tmp_path / "scalars.json").write_text(text)
    assert read_scalars(tmp_path / "scalars.json") == {"loss": [[10, 20], [2.0, None]], "lr": [[10, 20], [0.1, 0.1]]}
