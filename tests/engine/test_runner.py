"""The Runner's config, and the names of runs."""

import copy

import mmengine.config.config
from mmengine.config import Config
from torch import nn

from diffdistill.engine.runner import LaidOutOnce, PlannedRunner


def test_a_config_is_laid_out_once_and_anew_when_it_has_changed(monkeypatch, tmp_path):
    laid_out = []

    def lay_out(text, **style):
        laid_out.append(text)
        return text, True

    monkeypatch.setattr(mmengine.config.config, "FormatCode", lay_out)
    config = LaidOutOnce(dict(model=dict(widths=[1, 2])))
    copy.deepcopy(config).dump(tmp_path / "config.py")
    expected = Config(dict(model=dict(widths=[1, 2]))).pretty_text
    assert len(laid_out) == 2
    assert config.pretty_text == expected == (tmp_path / "config.py").read_text()
    assert len(laid_out) == 2
    config.model.widths.append(3)
    assert config.pretty_text != expected
    assert Config.fromfile(tmp_path / "config.py").model == dict(widths=[1, 2])


def test_runs_of_one_second_have_logs_of_their_own(tmp_path, capfd):
    config = Config(dict(work_dir=str(tmp_path), default_scope="diffdistill"))
    runs = [PlannedRunner.around(config, lambda: nn.Linear(1, 1)) for _ in range(3)]
    for number, run in enumerate(runs):
        run.logger.info(f"said by {number}")
    assert len({run.timestamp for run in runs}) == 3 == len({run.experiment_name for run in runs})
    logs = sorted(tmp_path.glob("*/*.log"))
    assert [[n for n in range(3) if f"said by {n}" in log.read_text()] for log in logs] == [[0], [1], [2]]
