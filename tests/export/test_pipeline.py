"""Whole pipelines by `tools/export.py`: which weights, which pictures, and sending them to the hub."""

import json

import diffusers
import numpy as np
import runs
import torch
from safetensors.torch import load_file

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.families.saving import published_name
from diffdistill.runs.load import Trained, read_weights


def export(teacher, *args) -> runs.Ended:
    return runs.tool("export", runs.SHAPES, *args, "--dtype", "float32", *runs.options(**runs.shapes(teacher)))


def unet_of(folder) -> dict[str, torch.Tensor]:
    return diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet").state_dict()


def test_averaged_and_raw_weights(shapes_run, thin_sdxl, tmp_path):
    """EMAHook saves the average as `state_dict` and what it averages as `ema_state_dict`; the average is the default."""
    file = shapes_run.work_dir / "iter_6.pth"
    for name, args in (("default", []), ("ema", ["--ema"]), ("raw", ["--raw"])):
        ended = export(thin_sdxl, file, tmp_path / name, *args)
        assert ended.code == 0, ended
    saved = runs.checkpoint(shapes_run.work_dir, 6)
    default, average, raw = (unet_of(tmp_path / name) for name in ("default", "ema", "raw"))
    for name, tensor in average.items():
        assert torch.equal(tensor, saved["state_dict"][f"trained.unet.{name}"])
        assert torch.equal(tensor, default[name])
        assert torch.equal(raw[name], saved["ema_state_dict"][f"module.trained.unet.{name}"])
    assert any(not torch.equal(raw[name], average[name]) for name in raw)


def test_a_run_without_an_average_has_raw_weights_alone(shapes_run, thin_sdxl, tmp_path):
    saved = runs.checkpoint(shapes_run.work_dir, 6)
    del saved["ema_state_dict"]
    torch.save(saved, file := tmp_path / "iter_6.pth")
    raw = read_weights(str(file), averaged=False)
    assert all(torch.equal(tensor, saved["state_dict"][name]) for name, tensor in raw.items())
    ended = export(thin_sdxl, file, tmp_path / "out", "--ema")
    assert ended.code == 2
    assert ended.err.strip() == f"error: --ema: {file} is of a run that kept no EMA; leave the option out"


def test_a_folder_holds_weights_of_one_kind(shapes_run, thin_sdxl, tmp_path):
    unet = shapes_run.work_dir / "unet"
    ended = export(thin_sdxl, unet, tmp_path / "out", "--raw")
    assert ended.code == 2
    assert f"--raw: the folder {unet} holds the averaged weights; give a .pth of the run" in ended.err
    assert not (tmp_path / "out").exists()
    assert export(thin_sdxl, unet, tmp_path / "out", "--ema").code == 0


def test_the_checkpoint_may_stand_before_or_behind(shapes_run, thin_sdxl, tmp_path):
    unet = shapes_run.work_dir / "unet"
    orders = dict(
        a=[runs.SHAPES, unet, tmp_path / "a"],
        b=[runs.SHAPES, tmp_path / "b", "--checkpoint", unet],
        c=[runs.SHAPES, unet, "--dtype", "float32", tmp_path / "c"],
    )
    for name, args in orders.items():
        ended = runs.tool("export", *args, "--dtype", "float32", *runs.options(**runs.shapes(thin_sdxl)))
        assert ended.code == 0, ended
        assert ended.out.strip() == str(tmp_path / name)
    ended = export(thin_sdxl, unet, tmp_path / "d", "--checkpoint", unet)
    assert ended.code == 2
    assert "is given as the checkpoint already; leave one out" in ended.err


def test_the_pipeline_gives_the_pictures_of_the_validation(shapes_run, thin_sdxl, tmp_path):
    """By nothing but diffusers: the same latents, and the same pictures."""
    config = load_config(runs.SHAPES, {key.replace("__", "."): value for key, value in runs.shapes(str(thin_sdxl)).items()})
    ended = export(thin_sdxl, shapes_run.work_dir / "iter_6.pth", tmp_path / "out")
    assert ended.code == 0, ended
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    # The config samples by another scheduler than the teacher's own; the card has a line for it.
    line = "pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)"
    assert line in (tmp_path / "out" / "README.md").read_text()
    pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    options = dict(num_inference_steps=1, guidance_scale=3.0)

    def draw(captions, seeds, **more):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipeline(captions, generator=generators, **options, **more).images

    captions, seeds = ["a red circle", "a small blue cross"], [0, 7]
    config.model.losses = {}
    assert check_model(config.model) is not None
    distiller = Trained(config, str(shapes_run.work_dir / "iter_6.pth")).load()
    ours, theirs = distiller.sample_latents(captions, seeds), draw(captions, seeds, output_type="latent")
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)

    levels = 255 * np.stack(draw(captions, seeds, output_type="np"))
    assert np.abs(levels - distiller.sample(captions, seeds)).max() < 0.5 + 1e-2  # which are rounded


def test_the_text_encoders_bear_the_names_that_all_versions_of_transformers_read(shapes_run, thin_sdxl, tmp_path):
    ended = export(thin_sdxl, shapes_run.work_dir / "unet", tmp_path / "out")
    assert ended.code == 0, ended
    for name in ("text_encoder", "text_encoder_2"):
        ours, theirs = (load_file(folder / name / "model.safetensors") for folder in (tmp_path / "out", thin_sdxl))
        assert all(key.startswith("text_model.") or key == "text_projection.weight" for key in ours)
        assert len(ours) == len(theirs)
        assert all(torch.equal(ours[published_name(key)], tensor) for key, tensor in theirs.items())


# The hub


def test_without_the_hub_the_folder_stays(shapes_run, thin_sdxl, tmp_path, monkeypatch):
    """Once without a token, and once with one and without a network."""
    for name, token, reason in (("a", None, "no token; run `hf auth login`"), ("b", "hf_none", "offline mode is enabled")):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        ended = export(thin_sdxl, shapes_run.work_dir / "unet", tmp_path / name, "--push-to-hub", "me/tiny")
        assert ended.code == 2
        (line,) = ended.err.strip().splitlines()
        assert line.startswith("error: --push-to-hub=me/tiny: ")
        assert reason in line
        assert str(tmp_path / name) in line
        assert json.loads((tmp_path / name / "model_index.json").read_text())["_class_name"] == "StableDiffusionXLPipeline"
        assert 'from_pretrained("me/tiny")' in (tmp_path / name / "README.md").read_text()


def test_what_cannot_be_a_repository(thin_sdxl, tmp_path):
    ended = export(thin_sdxl, tmp_path / "out", "--push-to-hub", "me/my/tiny")
    assert ended.code == 2
    assert "error: --push-to-hub=me/my/tiny: " in ended.err
    ended = export(thin_sdxl, tmp_path / "out", "--private")
    assert "error: --private: nothing is uploaded without --push-to-hub" in ended.err
    assert not list(tmp_path.iterdir())
