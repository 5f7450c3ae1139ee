"""What a finished run leaves behind, and what its log says."""

import json
import re

import mmengine
import runs
import torch
from diffusers import UNet2DConditionModel

import diffdistill


def results(ended: runs.Ended) -> dict:
    return json.loads((ended.work_dir / "results.json").read_text())


def test_a_run_leaves_what_its_readers_look_for(shapes_run):
    names = {path.name for path in shapes_run.work_dir.iterdir()}
    logs = {name for name in names if re.fullmatch(r"\d{8}_\d{6}", name)}
    assert len(logs) == 1
    assert names - logs == {*runs.FILES, runs.SHAPES, "iter_3.pth", "iter_6.pth"}
    assert {path.name for path in (shapes_run.work_dir / "unet").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


def test_exported_weights_are_the_averaged_ones(shapes_run):
    """EMAHook puts the average into `state_dict` of the file, and the raw weights into `ema_state_dict`."""
    exported = UNet2DConditionModel.from_pretrained(shapes_run.work_dir / "unet").state_dict()
    saved = runs.checkpoint(shapes_run.work_dir, 6)
    average, raw = saved["state_dict"], saved["ema_state_dict"]
    assert all(torch.equal(tensor, average[f"trained.unet.{name}"]) for name, tensor in exported.items())
    moved = [name for name, tensor in exported.items() if not torch.equal(tensor, raw[f"module.trained.unet.{name}"])]
    assert len(moved) > 0.9 * len(exported)


def test_exported_weights_without_ema_are_those_of_the_last_step(published_run):
    exported = UNet2DConditionModel.from_pretrained(published_run.work_dir / "unet").state_dict()
    saved = runs.checkpoint(published_run.work_dir, 3)["state_dict"]
    assert all(torch.equal(tensor, saved[f"trained.unet.{name}"]) for name, tensor in exported.items())


def test_results_say_what_was_run_and_how_it_went(shapes_run, thin_sdxl):
    found = results(shapes_run)
    assert found["config"] == "small_sd_xl_shapes"
    assert (found["steps"], found["seed"], found["batch_size"], found["ema"]) == (6, 0, 2, True)
    unet, teacher = (UNet2DConditionModel.from_pretrained(folder / "unet") for folder in (shapes_run.work_dir, thin_sdxl))
    assert found["student"]["parameters"] == unet.num_parameters()
    assert found["teacher"] == dict(checkpoint=str(thin_sdxl), parameters=teacher.num_parameters())
    assert "down_blocks.0.resnets.0 <- down_blocks.0.resnets.1" in found["student"]["feature_pairs"]
    assert set(found["losses"]) == {"loss", "loss_task", "loss_output", "loss_feature"}
    parts = (found["losses"][name] for name in ("loss_task", "loss_output", "loss_feature"))
    assert abs(sum(parts) - found["losses"]["loss"]) < 1e-4
    assert found["versions"]["diffdistill"] == diffdistill.__version__
    assert found["versions"]["mmengine"] == mmengine.__version__
    assert found["seconds"] > 0
    assert found["seconds_per_step"] > 0
    assert 0 < found["sampling"]["student"] < found["seconds"]
    assert 0 < found["sampling"]["teacher"] < found["seconds"]
    assert found["sampling"]["device"]
    assert (found["sampling"]["steps"], found["sampling"]["pixels"]) == (1, "32×32")


def test_results_compare_the_student_with_its_teacher_and_with_itself_untrained(shapes_run):
    records = results(shapes_run)["validation"]
    assert [(record["model"], record["step"]) for record in records] == [
        ("teacher", 0),
        ("student", 0),
        ("student", 3),
        ("student", 6),
    ]
    assert all({"accuracy", "seen", "held_out", "n"} <= record.keys() for record in records)


def test_every_step_logs_each_loss_and_what_it_costs(shapes_run):
    logged = [line for line in shapes_run.out.splitlines() if "Iter(train)" in line]
    assert len(logged) == 6
    names = ["lr", "eta", "time", "data_time", "grad_norm", "loss", "loss_task", "loss_output", "loss_feature", "memory"]
    for line in logged:
        found = dict(re.findall(r"(\w+): (\S+)", line))
        assert found.keys() >= set(names), line
    assert 100 < int(found["memory"]) < 100_000  # MiB of the process


def test_the_last_lines_say_where_everything_is(shapes_run):
    end = "\n".join(shapes_run.out.splitlines()[-9:])
    work_dir = shapes_run.work_dir
    assert f'UNet2DConditionModel.from_pretrained("{work_dir / "unet"}")' in end
    assert str(work_dir / "samples" / "step_6.png") in end
    assert str(work_dir / "results.json") in end
    assert str(work_dir / "report.html") in end
    assert re.search(r"teacher: accuracy [\d.]+", end)
    assert re.search(r"untrained student: accuracy [\d.]+", end)
    assert re.search(r"student after 6 steps: accuracy [\d.]+", end)


def test_a_run_without_a_teacher_keeps_none(thin_sdxl, tmp_path):
    options = runs.shapes(thin_sdxl, **runs.SAMPLES, default_hooks__samples__interval=1)
    ended = runs.trained("small_sd_xl_shapes_task_only.py", tmp_path / "run", options)
    found = results(ended)
    assert set(found["losses"]) == {"loss", "loss_task"}
    assert found["student"]["feature_pairs"] == []
    assert "teacher" not in found["sampling"]
    assert [(record["model"], record["step"]) for record in found["validation"]] == [("student", 0), ("student", 2)]
    assert {path.name for path in (ended.work_dir / "samples").iterdir()} == {"step_1.png", "step_2.png"}


def test_the_time_of_a_picture_names_the_students_own_steps(shallow_sdxl, tmp_path):
    options = runs.shapes(shallow_sdxl, **runs.SAMPLES, model__method__steps=3)
    ended = runs.trained("sdxl_shapes_lcm.py", tmp_path / "run", options)
    assert json.loads((ended.work_dir / "results.json").read_text())["sampling"]["steps"] == 3  # model.sampling says 1
