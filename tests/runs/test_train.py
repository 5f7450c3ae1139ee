"""Whole trainings: the published configs on a folder of pictures, exact resume, and runs that are stopped."""

import json
import multiprocessing
import os
import shutil
import signal
import time

import pytest
import runs
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from mmengine.config import Config

from diffdistill.config.read import find_config


def load_unet(work_dir):
    """The exported student as plain diffusers loads it, and what did not fit."""
    unet, info = UNet2DConditionModel.from_pretrained(work_dir / "unet", output_loading_info=True)
    return unet, {problem: names for problem, names in info.items() if names}


def test_published_config_leaves_a_student_for_plain_diffusers(published_run, tiny_sdxl):
    unet, problems = load_unet(published_run.work_dir)
    assert not problems
    config = json.loads((published_run.work_dir / "unet" / "config.json").read_text())
    assert config["transformer_layers_per_block"] == [1, 2, 4]
    assert config["reverse_transformer_layers_per_block"] == [[4, 4, 10], [2, 1, 1], 1]
    assert config["mid_block_type"] == "UNetMidBlock2D"
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.float32}

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, unet=unet, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(["a red circle"], num_inference_steps=1, output_type="np").images
    assert pictures.shape == (1, 32, 32, 3)


def test_published_config_trains_the_student_alone(published_run, tiny_sdxl):
    """Every kept tensor has moved, and the teacher's folder on disk is what it was."""
    student, teacher = load_unet(published_run.work_dir)[0], UNet2DConditionModel.from_pretrained(tiny_sdxl / "unet")
    before = teacher.state_dict()
    moved = [name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(moved) > 0.9 * len(student.state_dict())


def test_resume_goes_on_from_the_last_checkpoint(published_run):
    assert "Iter(train) [3/3]" in published_run.out
    assert "Iter(train) [2/3]" not in published_run.out
    assert sorted(path.name for path in published_run.work_dir.glob("*.pth")) == ["iter_2.pth", "iter_3.pth"]


def test_a_vae_of_its_own_replaces_that_of_the_pipeline(published_run, tiny_sd, tiny_sdxl, captioned_folder):
    from diffdistill.registry import MODELS

    config = Config.fromfile(published_run.work_dir / runs.PUBLISHED)
    distiller = MODELS.build(config.model)
    used = distiller.frozen.pipeline.vae
    own, replaced = (AutoencoderKL.from_pretrained(folder / "vae").to(used.dtype) for folder in (tiny_sd, tiny_sdxl))
    assert used.config.scaling_factor == own.config.scaling_factor != replaced.config.scaling_factor
    assert not runs.differences(dict(used.state_dict()), dict(own.state_dict()))


@pytest.mark.parametrize("teacher", ["tiny_sd", "tiny_sd_v"])
def test_bk_sdm_small_trains_from_stable_diffusion(teacher, request, tmp_path):
    folder = request.getfixturevalue(teacher)
    ended = runs.trained("bk_sdm_small_shapes.py", tmp_path / "run", runs.shapes(folder))
    unet, problems = load_unet(ended.work_dir)
    assert not problems
    assert unet.config.mid_block_type is None
    assert unet.config.layers_per_block == 1
    pipeline = StableDiffusionPipeline.from_pretrained(folder, unet=unet, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(["a red circle"], num_inference_steps=1, output_type="np").images.shape == (1, 32, 32, 3)


def interrupted_after(work_dir, step, target):
    """Make `target` what `work_dir` would be, had its run died after `step` steps."""
    target.mkdir()
    shutil.copy(work_dir / f"iter_{step}.pth", target)
    (target / "last_checkpoint").write_text(str(work_dir / "gone" / f"iter_{step}.pth"))  # as in a folder that was moved
    return target


def test_six_steps_are_three_and_three_more(shapes_run, thin_sdxl, tmp_path):
    resumed = interrupted_after(shapes_run.work_dir, 3, tmp_path / "run")
    runs.trained(runs.SHAPES, resumed, runs.shapes(thin_sdxl, **runs.SIX_STEPS, **runs.EMA), "--resume")
    folders = (shapes_run.work_dir, resumed)
    straight, resumed = (runs.checkpoint(folder, 6) for folder in folders)
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert straight[part]
        assert not runs.differences(straight[part], resumed[part], part)
    results, again = (json.loads((folder / "results.json").read_text()) for folder in folders)
    assert [record["step"] for record in results["validation"]] == [0, 0, 3, 6]
    assert results["validation"] == again["validation"]


def test_resume_is_exact_with_workers_and_accumulated_gradients(thin_sdxl, captioned_folder, tmp_path):
    """Workers load ahead and draw random numbers of their own; an update spans three steps, and is averaged once."""
    options = runs.shapes(
        thin_sdxl,
        **runs.SIX_STEPS,
        **runs.EMA,
        train_dataloader__num_workers=2,
        train_dataloader__persistent_workers=True,
        optim_wrapper__accumulative_counts=3,
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        default_hooks__samples=None,
    )
    del options["val_dataloader__dataset__length"], options["train_cfg__val_interval"]
    del options["default_hooks__samples__prompts"], options["default_hooks__samples__interval"]
    straight = runs.trained(runs.SHAPES, tmp_path / "straight", options).work_dir
    assert not multiprocessing.active_children()
    resumed = interrupted_after(straight, 3, tmp_path / "resumed")
    runs.trained(runs.SHAPES, resumed, options, "--resume")
    first, last, again = runs.checkpoint(straight, 3), runs.checkpoint(straight, 6), runs.checkpoint(resumed, 6)
    assert runs.differences(first["state_dict"], last["state_dict"])
    for part in ("state_dict", "ema_state_dict", "optimizer"):
        assert not runs.differences(last[part], again[part], part)
    for name, average in last["state_dict"].items():  # the raw weights stand in `ema_state_dict`
        one, two = (saved["ema_state_dict"][f"module.{name}"] for saved in (first, last))
        assert torch.equal(first["state_dict"][name], one)
        assert torch.equal(average, one.lerp(two, 0.5))


def test_out_of_memory_says_all_that_accumulation_changes(thin_sdxl, tmp_path, monkeypatch):
    def exhausted(config, build):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("diffdistill.runs.train.PlannedRunner.around", exhausted)
    ended = runs.tool("train", runs.SHAPES, "--work-dir", tmp_path, *runs.options(**runs.shapes(thin_sdxl)))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    keys = (
        "train_dataloader.batch_size=2",
        "accumulative_counts",
        "max_iters",
        "val_interval",
        "param_scheduler",
        "intervals",
    )
    assert all(key in ended.err for key in keys), ended


def test_a_checkpoint_holds_the_student_and_nothing_of_its_teacher(shapes_run):
    found = runs.checkpoint(shapes_run.work_dir, 6)
    unet, _ = load_unet(shapes_run.work_dir)
    expected = {f"trained.unet.{name}" for name in unet.state_dict()}
    assert set(found["state_dict"]) == expected
    assert set(found["ema_state_dict"]) - {"steps"} == {f"module.{name}" for name in expected}
    # The weights, their average and AdamW's two moments, and some room for names.
    weights = sum(tensor.nbytes for tensor in unet.state_dict().values())
    assert (shapes_run.work_dir / "iter_6.pth").stat().st_size < 4 * weights + 1_000_000


def test_resume_with_nothing_to_resume_starts_anew(thin_sdxl, tmp_path):
    """So a cluster's script can always say --resume."""
    ended = runs.trained("small_sd_xl_shapes_task_only.py", tmp_path / "run", runs.shapes(thin_sdxl), "--resume")
    assert "Iter(train) [1/2]" in ended.out


def wait_for(path, process):
    """Wait until a running process has written `path`."""
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, runs.finish(process)
        time.sleep(0.1)
    process.kill()
    raise TimeoutError(path)


@pytest.mark.processes
def test_a_stopped_run_resumes_and_ends(thin_sdxl, tmp_path):
    """Stopped by Ctrl-C first; resumed with workers; killed; resumed again."""
    work_dir = tmp_path / "run"
    options = runs.shapes(
        thin_sdxl, train_cfg__max_iters=1000, train_dataloader__num_workers=0, default_hooks__checkpoint__interval=4
    )
    task_only = "small_sd_xl_shapes_task_only.py"
    process = runs.start("train", task_only, "--work-dir", work_dir, *runs.options(**options))
    wait_for(work_dir / "last_checkpoint", process)
    os.killpg(process.pid, signal.SIGINT)
    ended = runs.finish(process)
    assert ended.code == 75, ended
    last = (work_dir / "last_checkpoint").read_text()
    step = int(last.rpartition("_")[2].removesuffix(".pth"))
    assert ended.err.splitlines()[-1] == (
        f"stopped by SIGINT after step {step}; the same command with --resume goes on from {last}"
    )

    options |= {"train_dataloader__num_workers": 2, "default_hooks__checkpoint__interval": 2}
    process = runs.start("train", task_only, "--work-dir", work_dir, "--resume", *runs.options(**options))
    wait_for(work_dir / f"iter_{(step // 2 + 2) * 2}.pth", process)
    os.killpg(process.pid, signal.SIGKILL)
    runs.finish(process)
    last = (work_dir / "last_checkpoint").read_text()
    step = int(last.rpartition("_")[2].removesuffix(".pth"))
    assert not (work_dir / "unet").exists()

    options |= {"train_cfg__max_iters": step + 1, "train_dataloader__num_workers": 0}
    ended = runs.trained(task_only, work_dir, options, "--resume")
    assert f"Iter(train) [{step + 1}/{step + 1}]" in ended.out
    assert not load_unet(work_dir)[1]
    assert not list(work_dir.glob("*.partial")) + list(work_dir.glob(".*"))
    assert {path.name for path in work_dir.glob("*.pth")} == {f"iter_{step}.pth", f"iter_{step + 1}.pth"}
    assert (work_dir / "last_checkpoint").read_text() == str(work_dir / f"iter_{step + 1}.pth")


@pytest.mark.processes
def test_an_interrupt_inside_a_save_loses_nothing(thin_sdxl, tmp_path):
    """Ctrl-C while a checkpoint is written: it is finished, and the run stops."""
    work_dir = tmp_path / "run"
    config = tmp_path / "interrupted.py"
    config.write_text(
        f'''_base_ = ["{find_config("small_sd_xl_shapes_task_only")}"]
custom_imports = dict(imports=["interrupting"])
custom_hooks = [dict(type="InterruptSave", step=4)]
'''
    )
    options = runs.shapes(thin_sdxl, train_cfg__max_iters=6, default_hooks__checkpoint__interval=2)
    places = f"{runs.ROOT}:{runs.ROOT / 'tests' / 'helpers'}"
    process = runs.start("train", config, "--work-dir", work_dir, *runs.options(**options), PYTHONPATH=places)
    ended = runs.finish(process)
    assert ended.code == 75, ended
    end = f"stopped by SIGINT after step 4; the same command with --resume goes on from {work_dir / 'iter_4.pth'}"
    assert ended.err.splitlines()[-1] == end
    assert runs.checkpoint(work_dir, 4)["meta"]["iter"] == 4
