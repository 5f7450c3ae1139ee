"""The Runner's config."""

import copy

import mmengine.config.config
from mmengine.config import Config

from diffdistill.engine.runner import LaidOutOnce


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
