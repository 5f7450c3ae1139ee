"""The config that a search writes."""

from pathlib import Path

import pytest

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.search.space import Space
from diffdistill.search.writing import config_text
from diffdistill.students.cut import resolve_keep

GONE = {
    "down_blocks": [0, 1], "up_blocks": [1, 2], "mid_block.attentions": [], "mid_block.resnets": [],
    "down_blocks.1.attentions": [0], "down_blocks.1.resnets": [0], "up_blocks.1.attentions": [],
    "up_blocks.1.resnets": [0, 2],
}  # fmt: skip


@pytest.mark.parametrize("keep", [GONE, {"mid_block.attentions": [], "mid_block.resnets": [0]}], ids=["stage", "mid"])
def test_a_config_of_fifteen_lines_describes_the_cut(keep, tmp_path):
    """Also one that starts tensors anew and compares a layer with none, as its stage's partner has gone."""
    base = tmp_path / "base.py"
    bases = ["models/sd_shapes", "datasets/shapes", "schedules/shapes_100", "shapes_runtime"]
    base.write_text("_base_ = [" + ", ".join(f'"diffdistill::_base_/{each}.py"' for each in bases) + "]\n")
    space = Space(load_config(str(base)))
    cut = space.cut("", space.without_gone(keep), fresh_allowed=True)
    assert space.trouble(cut) == ""
    assert bool(cut.fresh) == bool(cut.unpaired) == (keep is GONE)
    text = config_text(space, cut, base, tmp_path, ["A cut.", "Its scores.", "The command."])
    assert len(text.splitlines()) <= 15
    Path(tmp_path, "found.py").write_text(text)
    plan = check_model(load_config(str(tmp_path / "found.py")).model)
    assert plan.layers.kept == resolve_keep(space.lengths, cut.keep).kept
