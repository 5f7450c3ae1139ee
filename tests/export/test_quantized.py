"""Exports with quantised weights: of students that were trained so, and of others after training."""

import json

import diffusers
import pytest
import runs
import torch

from diffdistill.config.read import load_config
from diffdistill.runs.load import Trained

FEW_BITS = dict(model__student__quantize__bits=2, model__student__quantize__group_size=8, train_cfg__val_interval=2)
CAPTIONS, SEEDS = ["a red circle", "a small blue cross"], [0, 7]


def export(changes, *args) -> runs.Ended:
    return runs.tool("export", runs.SHAPES, *args, "--dtype", "float32", *runs.options(**changes))


def latents_of(folder) -> torch.Tensor:
    """Of two pictures that stock diffusers draws."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    options = dict(num_inference_steps=1, guidance_scale=3.0, output_type="latent")
    return pipeline(CAPTIONS, generator=generators, **options).images


def drawn(changes, checkpoint) -> torch.Tensor:
    """The same two, as `test` and `sample` draw them."""
    config = load_config(runs.SHAPES, {key.replace("__", "."): value for key, value in changes.items()})
    return Trained(config, str(checkpoint)).load().sample_latents(CAPTIONS, SEEDS)


@pytest.fixture(scope="module")
def few_bits(tmp_path_factory, thin_sdxl):
    """A run of two steps with weights of two bits, and how it was changed."""
    changes = runs.shapes(str(thin_sdxl), **FEW_BITS)
    return runs.trained(runs.SHAPES, tmp_path_factory.mktemp("runs") / "few_bits", changes), changes


def test_a_student_of_few_bits_is_exported_as_it_was_validated(few_bits, tmp_path):
    run, changes = few_bits
    ended = export(changes, run.work_dir / "unet", tmp_path / "out")
    assert ended.code == 0, ended
    expected = drawn(changes, run.work_dir / "unet")
    torch.testing.assert_close(latents_of(tmp_path / "out"), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(drawn(changes, tmp_path / "out"), expected, rtol=1e-4, atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    size = (tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert "were quantised to 4 values (2 bits) in groups of 8 input channels" in card
    assert f"`unet/` has {size / 1e6:,.1f} MB" in card
    assert "caption accuracy" in card  # the run validated these very values
    assert "torch_dtype=torch.float32" in card


def test_after_training_figures_are_those_of_the_quantised_weights(shapes_run, thin_sdxl, tmp_path):
    plain = runs.shapes(str(thin_sdxl))
    file = shapes_run.work_dir / "unet"
    ended = export(plain, file, tmp_path / "out", "--quantize", "int8")
    assert ended.code == 0, ended
    eight_bits = plain | dict(model__student__quantize__bits=8)
    torch.testing.assert_close(latents_of(tmp_path / "out"), drawn(eight_bits, file), rtol=1e-4, atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "were quantised after training to 255 values (8 bits) in rows" in card
    assert "these, which were quantised after it, were not measured" in card

    ended = runs.tool("test", runs.SHAPES, "--checkpoint", tmp_path / "out", "--work-dir", tmp_path, *runs.options(**plain))
    assert ended.code == 0, ended
    ended = runs.tool("test", runs.SHAPES, "--checkpoint", file, "--work-dir", tmp_path, *runs.options(**eight_bits))
    assert ended.code == 0, ended
    (record,) = json.loads((tmp_path / "test" / "results.json").read_text())["results"]
    assert record["quantize"]["bits"] == 8


def test_floats_of_eight_bits(shapes_run, thin_sdxl, tmp_path):
    plain = runs.shapes(str(thin_sdxl))
    ended = export(plain, shapes_run.work_dir / "unet", tmp_path / "out", "--quantize", "fp8")
    assert ended.code == 0, ended
    expected, found = drawn(plain, shapes_run.work_dir / "unet"), latents_of(tmp_path / "out")
    assert 0 < (found - expected).abs().max() < 0.1 * expected.std()
    assert "8-bit floats, with a scale a row" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "args", "words"),
    [
        (FEW_BITS, ["--quantize", "int8"], ["--quantize=int8", "trained with 2 bits"]),
        ({}, ["--quantize", "int4"], ["--quantize=int4", "32", "8 input channels of down_blocks.0"]),
        ({}, ["--quantize", "int8", "--fuse-lora"], ["--fuse-lora", "no adapter"]),
        ({}, ["--quantize", "int8", "--single-file"], ["--quantize is for a folder"]),
        (
            dict(model__student__adapter="{'type':'LoraConfig','r':2,'target_modules':['to_q']}"),
            ["--quantize", "int8"],
            ["--quantize=int8", "give --fuse-lora"],
        ),
    ],
)
def test_what_cannot_be_quantised_is_one_line(changes, args, words, shapes_run, thin_sdxl, tmp_path):
    checkpoint = shapes_run.work_dir / "unet"
    if "model__student__adapter" in changes:
        changes = changes | dict(train_cfg__max_iters=1)
        run = runs.trained(runs.SHAPES, tmp_path / "lora", runs.shapes(str(thin_sdxl), **changes))
        checkpoint = run.work_dir / "step0"
    ended = export(runs.shapes(str(thin_sdxl), **changes), checkpoint, tmp_path / "out", *args)
    runs.assert_one_line(ended, *words)
    assert not (tmp_path / "out").exists()
