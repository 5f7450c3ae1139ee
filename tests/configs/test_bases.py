"""How the configs are made of the files in `_base_`: who inherits whom, and that nothing stands twice."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config

from diffdistill.config.check import REQUIRED
from diffdistill.config.read import MODEL_PARTS, config_root, load_config
from diffdistill.errors import InputError

FILES = sorted(config_root().rglob("*.py"))
RUNS = [path for path in FILES if "_base_" not in path.parts]
CUTS = sorted((config_root() / "_base_" / "cuts").glob("*.py"))
QUICK_START = ["models/sdxl_shapes", "datasets/shapes", "schedules/shapes_100", "shapes_runtime"]


def short(path: Path) -> str:
    return str(path.relative_to(config_root()))


@cache
def parents(path: Path) -> tuple[Path, ...]:
    return tuple((path.parent / name).resolve() for name in Config._get_base_files(str(path)))


def depth(path: Path) -> int:
    """How many files stand one above the other, `path` included."""
    return 1 + max(map(depth, parents(path)), default=0)


@pytest.mark.parametrize("path", RUNS, ids=short)
def test_a_run_config_inherits_from_bases_alone_and_not_deep(path):
    strangers = [short(parent) for parent in parents(path) if "_base_" not in parent.parts]
    assert not strangers
    assert depth(path) <= 3


def test_base_names_are_unique():
    """mim finds a config by its base name, those in `_base_` included."""
    assert [name for name, count in Counter(path.stem for path in FILES).items() if count > 1] == []


def test_every_base_is_inherited():
    used = {parent for path in FILES for parent in parents(path)}
    unused = {path for path in FILES if "_base_" in path.parts} - used
    assert {short(path.parent) for path in unused} == {"_base_/evaluation"}  # those are for `mim test --protocol`


def entries(path: Path) -> set[str]:
    """The entries of keep lists that the text of a file holds."""
    return set(re.findall(r'"[\w.*\[\]]*_block[\w.*\[\]]*": \[[\d,\s]*\]', path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", CUTS, ids=short)
def test_a_cut_stands_in_one_file(path):
    """No other file, a cut or not, repeats its keep list. Two entries are no list: many cuts drop the mid block."""
    own = entries(path)
    assert own
    assert [short(other) for other in FILES if other != path and len(own & entries(other)) > 2] == []
    keep = Config.fromfile(path).cut.student.keep
    others = [other for other in CUTS if other != path]
    assert keep not in [Config.fromfile(other).cut.student.keep for other in others]


def test_bk_sdms_layers_stand_in_one_file():
    """Six students keep one layer a block."""
    pattern = '"up_blocks.*.resnets": [0, 2]'
    files = [path for path in FILES if pattern in path.read_text(encoding="utf-8")]
    assert [short(path) for path in files] == ["_base_/cuts/bk_sdm_base.py"]


@pytest.mark.parametrize("path", RUNS, ids=short)
def test_a_run_config_has_no_keys_of_its_making(path):
    """Names that only help to write a config would be dumped with it, and `--cfg-options` would take them in vain."""
    config = Config.fromfile(path)
    known = {*REQUIRED, "stages", "param_scheduler", "val_dataloader", "val_evaluator", "val_cfg"}
    runtime = Config.fromfile(config_root() / "_base_" / "default_runtime.py")
    assert set(config) <= known | set(runtime)


def config_outside(folder: Path, bases: list[str], body: str) -> str:
    path = folder / "mine.py"
    path.write_text(f"_base_ = {[f'diffdistill::_base_/{base}.py' for base in bases]}\n{body}\n")
    return str(path)


def test_a_config_outside_composes_bases(tmp_path):
    """Teacher, cut and method of any files of `_base_`, merged in depth: both parts here say something of the student."""
    bases = ["models/sdxl_shapes", "cuts/vega_shapes", "methods/progressive_shapes", "datasets/shapes", "shapes_runtime"]
    body = "".join(f'_base_.model.merge(_base_.pop("{part}"))\n' for part in ("cut", "method"))
    config = load_config(
        config_outside(tmp_path, bases, body + 'model = dict(student=dict(keep={"mid_block.resnets": []}))')
    )
    cut = Config.fromfile(config_root() / "_base_" / "cuts" / "vega_shapes.py").cut.student.keep
    assert config.model.student == dict(keep={**cut, "mid_block.resnets": []}, prediction_type="v_prediction")
    assert config.model.method.type == "ProgressiveDistillation"
    assert not set(MODEL_PARTS) & set(config)
    assert load_config("sdxl_shapes_progressive").model.student == dict(keep={}, prediction_type="v_prediction")


def test_the_example_of_the_readme_composes(tmp_path):
    page = (config_root() / "README.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "cuts/ssd_1b.py" in block)
    (tmp_path / "mine.py").write_text(example)
    model = load_config(str(tmp_path / "mine.py")).model
    assert model.student == load_config("ssd_1b_distill_from_sdxl_pokemon_blip").model.student
    assert model.method.conditioning.type == "RandomConditioning"
    assert set(model.losses) == {"output", "feature"}


@pytest.mark.parametrize(
    ("part", "base"),
    [("cut", "cuts/vega_shapes"), ("method", "methods/random_conditioning"), ("adapter", "adapters/lora_star")],
)
def test_a_part_that_is_in_no_model_is_an_error(part, base, tmp_path):
    """Without the line that takes it, a full-size student would be trained, or the plain method."""
    with pytest.raises(InputError, match=rf"mine.py: the inherited {part} is in no model; write .*_base_.pop\(.{part}.\)"):
        load_config(config_outside(tmp_path, [*QUICK_START, base], ""))
