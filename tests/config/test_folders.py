"""A run writes nowhere that it reads from, and over nothing that no run has made."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import runs
from runs import options, shapes, tool

from diffdistill.config.folders import check_work_folder, inputs, is_run
from diffdistill.config.read import load_config
from diffdistill.errors import InputError

CONFIG = "small_sd_xl_shapes"


def digest(folder: Path) -> dict[str, str]:
    """Every file below `folder` with a digest of its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def teacher(thin_sdxl, tmp_path) -> Path:
    return shutil.copytree(thin_sdxl, tmp_path / "teacher")


def refusal(config, work_dir) -> str:
    config.work_dir = str(work_dir)
    with pytest.raises(InputError) as caught:
        check_work_folder(config)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("within", ["", "unet", "scheduler", "new", "new/deep", ".."])
def test_the_folder_of_the_teacher_is_refused_before_anything_is_written(within, teacher):
    before = digest(teacher.parent)
    ended = tool("train", CONFIG, "--work-dir", teacher / within, *options(**shapes(teacher)))
    assert ended.code == 2, ended
    assert ended.err.startswith(f"error: --work-dir={teacher / within}: ")
    assert ended.err.count("\n") == 1
    assert digest(teacher.parent) == before


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "unet/config.json", "results.json", "report.json", "samples/a.png", "scheduler/x", CONFIG + ".py"],
)
def test_what_no_run_has_made_is_not_written_over(name, tmp_path, thin_sdxl):
    config = load_config(CONFIG, {"model.teacher.checkpoint": str(thin_sdxl)})
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert file.relative_to(tmp_path / "run").parts[0] in refusal(config, tmp_path / "run")
    assert file.read_text() == "{}"


def test_other_files_in_it_do_no_harm(tmp_path, thin_sdxl):
    """A log that a shell has redirected there before the run, for instance."""
    (tmp_path / "log.txt").write_text("")
    (tmp_path / "notes").mkdir()
    check_work_folder(load_config(CONFIG, {"model.teacher.checkpoint": str(thin_sdxl)}, str(tmp_path)))


def test_a_run_trains_again_in_its_folder_whatever_is_left_of_it(shapes_run, thin_sdxl, tmp_path):
    config = load_config(CONFIG, {"model.teacher.checkpoint": str(thin_sdxl)}, str(tmp_path / "run"))
    run = shutil.copytree(shapes_run.work_dir, tmp_path / "run", ignore=lambda folder, names: {"samples"} & set(names))
    check_work_folder(config)
    marks = [path for path in run.iterdir() if is_run_mark(path)]
    assert len(marks) == 4  # logs, last_checkpoint, results.json, report.json
    for mark in marks:
        only = shutil.copytree(
            run, tmp_path / "only", ignore=lambda _, names, keep=mark: {m.name for m in marks} & set(names) - {keep.name}
        )
        assert is_run(only), mark
        shutil.rmtree(only)
    for mark in marks:
        shutil.rmtree(mark) if mark.is_dir() else mark.unlink()
    assert "write over" in refusal(config, run)


def is_run_mark(path: Path) -> bool:
    return path.name in ("last_checkpoint", "results.json", "report.json") or path.name[:8].isdigit()


def test_a_damaged_or_strangers_results_json_is_no_mark(tmp_path):
    for text in ("{", "[]", json.dumps(dict(accuracy=1))):
        (tmp_path / "results.json").write_text(text)
        assert not is_run(tmp_path)


@pytest.mark.parametrize("work_dir", ["data", "data/run", "."])
def test_a_data_set_that_the_run_reads_is_refused(work_dir, tmp_path, captioned_folder, thin_sdxl):
    data = shutil.copytree(captioned_folder, tmp_path / "data")
    config = load_config(runs.PUBLISHED, {"train_dataloader.dataset.source": str(data)})
    assert f"the run reads {data}, its train_dataloader.dataset.source" in refusal(config, tmp_path / work_dir)


def test_a_folder_of_class_pictures_is_apart_too(tmp_path, teacher):
    config = load_config("sdxl_shapes_dreambooth_lora_star")
    dataset = config.train_dataloader.dataset
    dataset.source = str(tmp_path / "dog")
    (tmp_path / "dog").mkdir()
    for folder in (teacher, teacher / "unet", tmp_path / "dog"):
        dataset["class_images"] = dict(prompt="a dog", folder=str(folder))
        assert refusal(config, tmp_path / "run").startswith(f"class_images.folder={folder}: ")
    dataset["class_images"] = dict(prompt="a dog", folder=str(tmp_path / "class"))
    check_work_folder(config)


def test_words_are_no_inputs(tmp_path, monkeypatch):
    (tmp_path / "float32").mkdir()
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    config = dict(model=dict(dtype="float32", teacher=dict(checkpoint="a", vae="")), val_dataloader=dict(prompts=["a"]))
    assert [key for key, _ in inputs(config)] == ["model.teacher.checkpoint"]


@pytest.mark.parametrize("stage", ["stage_1_a", "stage_2_b"])
def test_of_a_run_in_stages_every_folder_is_looked_at_before_the_first(stage, tmp_path, thin_sdxl):
    file = tmp_path / "staged.py"
    file.write_text(
        f"""_base_ = ["{runs.ROOT}/configs/shapes/small_sd_xl_shapes.py"]
model = dict(teacher=dict(checkpoint={str(thin_sdxl)!r}))
stages = [dict(name="a"), dict(name="b")]
"""
    )
    (tmp_path / "run" / stage / "unet").mkdir(parents=True)
    (tmp_path / "run" / stage / "unet" / "config.json").write_text("{}")
    ended = tool("train", file, "--work-dir", tmp_path / "run")
    assert ended.code == 2, ended
    assert f"--work-dir={tmp_path}/run/{stage}: a run would write over unet there" in ended.err
    assert len(digest(tmp_path / "run")) == 1
