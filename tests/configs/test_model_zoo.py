"""The metafiles say what the configs are, and MODEL_ZOO.md what the metafiles say."""

import runpy
from functools import cache
from pathlib import Path

import plans
import published
import pytest
import yaml
from mim.commands.search import convert2df
from modelindex.load_model_index import load

from diffdistill.families.architectures import hub_names
from diffdistill.shapes.parts import make_transformer, make_unet
from diffdistill.students.cut import plan_student

ROOT = Path(__file__).resolve().parents[2]
METAFILES = [ROOT / file for file in yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]]
MODELS = {model["Name"]: model for file in METAFILES for model in yaml.safe_load(file.read_text())["Models"]}


def teacher_config(checkpoint: str) -> dict:
    """The denoiser's config of a hub name, or of a pipeline of the shapes benchmark."""
    if checkpoint.lower() in hub_names():
        return plans.denoiser_config(hub_names()[checkpoint.lower()])
    layout = Path(checkpoint).name.removeprefix("diffdistill::").split("_")[0]
    model = make_transformer() if layout == "sd3" else make_unet(layout)
    return dict(model.config, _class_name=type(model).__name__)


@cache
def teacher_parameters(checkpoint: str) -> int:
    return plans.denoiser(teacher_config(checkpoint)).num_parameters()


def test_page_is_the_one_the_script_writes():
    text = runpy.run_path(str(ROOT / "tools" / "make_model_zoo.py"))["model_zoo"]()
    assert (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8") == text, "run python tools/make_model_zoo.py"


def test_every_run_config_is_listed_once():
    configs = [str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("*/*.py") if path.parent.name != "_base_"]
    assert sorted(model["Config"] for model in MODELS.values()) == sorted(configs)
    assert all(Path(model["Config"]).stem == name for name, model in MODELS.items())


def test_every_folder_of_configs_is_imported():
    assert sorted(METAFILES) == sorted((ROOT / "configs").glob("*/metafile.yml"))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_parameters_are_those_of_the_config(name):
    config, data = plans.read(name), MODELS[name]["Metadata"]
    if "base" in config.model:
        assert data["Base"] == config.model.base.checkpoint
        assert data["Parameters"] == teacher_parameters(config.model.base.checkpoint)
        return
    checkpoint = config.model.teacher.checkpoint
    teacher, keep = teacher_config(checkpoint), config.model.student.get("keep") or {}
    kind = plans.denoiser_class(teacher)
    student, _ = plan_student(kind, teacher, keep)
    for model in (config.model, *(stage.get("model", {}) for stage in config.get("stages", []))):
        if width := model.get("student", {}).get("guidance_embedding"):
            student["time_cond_proj_dim"] = width
    assert data["Parameters"] == plans.denoiser(student, kind).num_parameters()
    assert data["Teacher Parameters"] == teacher_parameters(checkpoint)


def test_scores_say_whose_they_are():
    results = [result for model in MODELS.values() for result in model.get("Results", [])]
    assert results
    assert all(result["Dataset"].endswith(("(the paper's)", "(measured here)")) for result in results)


def test_mim_lists_sizes_and_scores():
    table = convert2df(load(str(ROOT / "model-index.yml")))
    row = table.loc["bk_sdm_tiny_distill_from_sd_14_laion_212k"]
    assert (row["parameters"], row["model"]) == (published.PARAMETERS["bk_sdm_tiny"], "bk-sdm")
    assert row["coco 30k, pndm 25 steps, 512 to 256 (the paper's)/fid"] == 17.12
