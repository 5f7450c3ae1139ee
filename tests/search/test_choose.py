"""Searches by the tool, as users start them."""

import json

import pytest
import runs

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.students.cut import build_on_meta
from diffdistill.students.size import count

CONFIG = """
_base_ = [
    "diffdistill::_base_/models/{model}.py", "diffdistill::_base_/datasets/shapes.py",
    "diffdistill::_base_/schedules/{schedule}.py", "diffdistill::_base_/shapes_runtime.py",
]
model = dict(teacher=dict(checkpoint="{teacher}"), sampling=dict(num_inference_steps=1))
train_dataloader = dict(batch_size=2)
val_dataloader = dict(batch_size=2, dataset=dict(length=2))
default_hooks = dict(samples=dict(prompts=["a red circle"]))
"""
FEW = "--samples", "4", "--candidates", "4", "--train", "2", "--steps", "1"


def write(folder, teacher, model="sdxl_shapes", schedule="shapes_100"):
    file = folder / "whole.py"
    file.write_text(CONFIG.format(model=model, schedule=schedule, teacher=teacher))
    return file


@pytest.fixture(scope="module")
def found(tmp_path_factory, thin_sdxl):
    """A search for half the parameters: what it printed, its folder, its figures, and the config that it searched for."""
    folder = tmp_path_factory.mktemp("choose")
    config = write(folder, thin_sdxl)
    args = (config, "--budget", "parameters=0.5", *FEW, "--repeat", "1", "--out", folder / "out")
    ended = runs.tool("choose_student", *args)
    assert ended.code == 0, ended
    figures = json.loads((folder / "out" / "whole_parameters_05.json").read_text())
    return ended, folder / "out", figures, args


def test_the_config_that_is_written_trains_a_student_within_the_budget(found, tmp_path):
    _, out, figures, _ = found
    file = out / "whole_parameters_05.py"
    assert len(file.read_text().splitlines()) <= 15
    config = load_config(str(file))
    plan = check_model(config.model)
    parameters = count(build_on_meta(plan.family.denoiser_class, plan.config))
    assert parameters == figures["candidates"][0]["cost"]["parameters"] <= 0.5 * figures["teacher"]["parameters"]
    ended = runs.trained(file, tmp_path / "run", {"train_cfg__max_iters": 1, "train_cfg__val_interval": 1})
    assert (ended.work_dir / "unet").exists()


def test_candidates_meet_the_budget_and_the_trained_ones_have_scores(found):
    _, _, figures, _ = found
    limit = figures["budgets"][0]["limit"]
    assert all(cut["cost"]["parameters"] <= limit for cut in figures["candidates"])
    trained = [cut for cut in figures["candidates"] if cut["trained_error"] is not None]
    assert len(trained) == 2
    assert all("accuracy" in cut["metrics"] for cut in trained)
    assert figures["candidates"][0]["seeds"].keys() == {"1"}
    assert len({json.dumps(cut["keep"]) for cut in figures["candidates"]}) == len(figures["candidates"])


def test_the_page_is_one_file_with_the_network_and_the_pictures(found):
    page = (found[1] / "whole_parameters_05.html").read_text()
    assert page.count('class="network"') == 2
    assert "data:image/" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "How the ranking changed" in page


def test_what_is_known_is_not_measured_again(found):
    """Neither scores nor trainings: the figures of the second search are the first's, and its folder stays as it was."""
    _, out, figures, args = found
    before = (out / "figures.json").read_bytes()
    folders = {path: path.stat().st_mtime_ns for path in (out / "candidates").glob("*/unet/*")}
    assert runs.tool("choose_student", *args).code == 0
    again = json.loads((out / "whole_parameters_05.json").read_text())
    assert again["candidates"] == figures["candidates"]
    assert (out / "figures.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in folders} == folders


def test_a_keep_list_is_the_space_to_search_in(found, tmp_path):
    file = tmp_path / "narrow.py"
    keep = '{"mid_block.resnets": [], "mid_block.attentions": []}'
    file.write_text(f'_base_ = ["{found[3][0]}"]\nmodel = dict(student=dict(keep={keep}))\n')
    ended = runs.tool("choose_student", file, "--budget", "parameters=0.6", *FEW, "--train", "1", "--out", tmp_path / "out")
    assert ended.code == 0, ended
    assert "student.keep" in ended.out
    figures = json.loads((tmp_path / "out" / "narrow_parameters_06.json").read_text())
    assert all(cut["keep"]["mid_block.resnets"] == [] for cut in figures["candidates"] if "mid_block.resnets" in cut["keep"])
    assert not any(row["name"].startswith("mid_block") for row in figures["scores"])
    assert "_delete_" in (tmp_path / "out" / "narrow_parameters_06.py").read_text()


def test_a_transformer_loses_whole_blocks_by_time(tiny_sd3, tmp_path):
    """A budget of seconds, measured side by side with the teacher."""
    config = write(tmp_path, tiny_sd3, "sd3_shapes", "sd3_shapes_100")
    args = (config, "--budget", "seconds=0.95", "parameters=0.9", *FEW, "--train", "1", "--out", tmp_path / "out")
    ended = runs.tool("choose_student", *args)
    assert ended.code == 0, ended
    figures = json.loads((tmp_path / "out" / "whole_seconds_095_parameters_09.json").read_text())
    best = figures["candidates"][0]
    assert best["keep"]["transformer_blocks"][-1] == 3  # the one that returns no text
    assert best["cost"]["seconds"] <= 0.95 * figures["teacher"]["cost"]["seconds"]


def test_sensitivity_alone_trains_nothing(thin_sdxl, tmp_path):
    config = write(tmp_path, thin_sdxl)
    ended = runs.tool("choose_student", config, "--sensitivity-only", "--samples", "2", "--out", tmp_path / "out")
    assert ended.code == 0, ended
    figures = json.loads((tmp_path / "out" / "whole_sensitivity.json").read_text())
    scores = {row["name"]: row["error"] for row in figures["scores"]}
    assert scores["mid_block"] > 0
    assert scores["innermost stage and mid block gone"] > 0
    assert not (tmp_path / "out" / "candidates").exists()


def test_the_plan_of_a_true_size_teacher_needs_no_weights():
    ended = runs.tool(
        "choose_student",
        runs.PUBLISHED,
        "--plan",
        "--budget",
        "parameters=0.5",
        "--cfg-options",
        "model.student._delete_=True",
    )
    assert ended.code == 0, ended
    assert "101 scores (95 single layers)" in ended.out
    assert "forwards" in ended.out
    assert " h " in ended.out


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (["parameters=0.001"], ["parameters=0.001", "smallest"]),
        (["parameters=1"], ["parameters=1", "the teacher itself meets it"]),
        (["gb=100"], ["gb=100", "the teacher itself meets it"]),
        (["watts=0.5"], ["watts", "parameters", "gmacs"]),
        (["parameters=half"], ["parameters=half", "number"]),
        ([], ["--budget"]),
    ],
)
def test_budgets_that_cannot_be_met(budget, words, found):
    out = found[1]
    args = ["--budget", *budget] if budget else []
    before = sorted(out.iterdir())
    ended = runs.tool("choose_student", found[3][0], *args, *FEW, "--out", out)
    assert ended.code == 2
    line = ended.err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert not [word for word in words if word not in line], line
    assert sorted(out.iterdir()) == before


def test_a_config_without_a_teacher_is_refused():
    ended = runs.tool("choose_student", "sdxl_shapes_finetune_shapes", "--budget", "parameters=0.5")
    runs.assert_one_line(ended, "sdxl_shapes_finetune_shapes.py", "model.teacher")
