"""Pipelines that were exported for a runtime: they draw what torch's draw, by the tools that draw and measure."""

import json
import sys

import numpy as np
import pytest
import runs
import tiny
import tiny_transformers
import torch

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.graphs import write_runtime_pipeline
from diffdistill.families.loading import load_pipeline
from diffdistill.families.runtimes import RUNTIMES, RuntimeFolder, runtime_of
from diffdistill.students.size import count


def exported(source, folder, runtime: str):
    """The pipeline in `source`, and the same from `folder`, exported for `runtime`."""
    pipeline = load_pipeline(Checkpoint(str(source), "source"), dtype=torch.float32)
    write_runtime_pipeline(pipeline, folder, runtime, "float32", None)
    again = RuntimeFolder(Checkpoint(str(folder), "source"), "float32", "--dtype").pipeline()
    for each in (pipeline, again):
        each.set_progress_bar_config(disable=True)
    return pipeline, again


def draw(pipeline, **options) -> np.ndarray:
    noise = torch.Generator().manual_seed(0)
    prompts = ["a red circle", "a blue square"]
    return pipeline(prompts, num_inference_steps=2, generator=noise, output_type="np", **options).images


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_sd3_with_all_encoders_draws_the_same(runtime, tmp_path):
    """At the size of its training and at another, with fewer tokens of T5 than were traced."""
    source = tiny_transformers.write_sd3(tmp_path / "sd3", t5=True)
    ours, theirs = exported(source, tmp_path / "out", runtime)
    for size in (dict(), dict(height=16, width=24, max_sequence_length=16)):
        assert np.abs(draw(ours, **size) - draw(theirs, **size)).max() < 1e-4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_sd_draws_the_same(tiny_sd, runtime, tmp_path):
    """By PNDM with its v-prediction's integer timesteps, one picture or two, and twice from one pipeline."""
    ours, theirs = exported(tiny_sd, tmp_path / "out", runtime)
    first = draw(theirs)
    assert np.abs(draw(ours) - first).max() < 1e-4
    assert np.array_equal(draw(theirs), first)
    assert runtime_of(tmp_path / "out") is RUNTIMES[runtime]
    assert runtime_of(tiny_sd) is None
    assert count(theirs.unet) == count(ours.unet)
    assert all(parameter.is_meta for parameter in theirs.unet.parameters())
    with pytest.raises(InputError, match="has no encoder"):
        theirs.vae.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="takes no down_block_additional_residuals"):
        theirs.unet(
            torch.zeros(1, 4, 16, 16), 1, torch.zeros(1, 77, 32), down_block_additional_residuals=[torch.zeros(1)] * 12
        )


def test_what_is_missing_is_one_line(tiny_sd, tmp_path, monkeypatch):
    pipeline = load_pipeline(Checkpoint(str(tiny_sd), "source"))
    write_runtime_pipeline(pipeline, tmp_path / "out", "onnx", "float32", None)
    checkpoint = Checkpoint(str(tmp_path / "out"), "--checkpoint")
    with pytest.raises(InputError, match=r"^--dtype=bfloat16: ONNX Runtime computes in float32 on a CPU"):
        RuntimeFolder(checkpoint, "bfloat16", "--dtype")
    whole = (tmp_path / "out/unet/model.onnx").read_bytes()
    (tmp_path / "out/unet/model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"out/unet/model.onnx cannot be opened by ONNX Runtime"):
        RuntimeFolder(checkpoint, "float32", "--dtype").part("unet")
    (tmp_path / "out/unet/model.onnx").unlink()
    with pytest.raises(InputError, match=r"unet/model.onnx is missing; export the pipeline again"):
        RuntimeFolder(checkpoint, "float32", "--dtype")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"onnxruntime is not installed.*pip install 'diffdistill\[onnx\]'"):
        RuntimeFolder(checkpoint, "float32", "--dtype")


def options(teacher) -> list[str]:
    return runs.options(**runs.shapes(teacher))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_run_is_exported_sampled_and_measured(shapes_run, thin_sdxl, runtime, tmp_path):
    """As users do: `export --runtime`, then `sample` and `test` of the folder, beside torch."""
    out, unet = tmp_path / "out", shapes_run.work_dir / "unet"
    ended = runs.tool("export", runs.SHAPES, unet, out, "--runtime", runtime, "--dtype", "float32", *options(thin_sdxl))
    assert ended.code == 0, ended
    assert ended.out.strip() == str(out)
    card = (out / "README.md").read_text()
    assert f"graphs for {RUNTIMES[runtime].title}" in card
    assert "mim run diffdistill sample out" in card

    sources = [f"{runs.SHAPES}={unet}", f"{runs.SHAPES}={out}", out]
    drawn = ["--prompt", "a red circle", "--steps", 2, "--guidance-scale", 3, "--out", tmp_path / "samples"]
    ended = runs.tool("sample", *sources, *drawn, *options(thin_sdxl))
    assert ended.code == 0, ended
    pictures = {path.stem: np.asarray(tiny.Image.open(path), np.int16) for path in (tmp_path / "samples").glob("*_0.png")}
    torchs, ours = pictures[f"small_sd_xl_shapes_{shapes_run.work_dir.name}_0"], pictures["small_sd_xl_shapes_out_0"]
    assert np.abs(torchs - ours).max() <= 1
    assert "out_0" in pictures  # by the pipeline's own sampler

    work_dir = ["--work-dir", tmp_path / "run", "--json", tmp_path / "figures.json"]
    ended = runs.tool("test", runs.SHAPES, "--checkpoint", unet, out, *work_dir, *options(thin_sdxl))
    assert ended.code == 0, ended
    first, second = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert first["protocol"] == second["protocol"]
    assert first["colour"] == second["colour"]


def test_exports_that_do_not_fit_are_one_line(shapes_run, thin_sdxl, tiny_sd, tmp_path):
    """Nothing is loaded or written before."""
    unet, given = shapes_run.work_dir / "unet", options(thin_sdxl)
    write_runtime_pipeline(load_pipeline(Checkpoint(str(tiny_sd), "source")), tmp_path / "sd", "onnx", "float32", None)
    ended = runs.tool("sample", f"{runs.SHAPES}={tmp_path / 'sd'}", "--prompt", "a", "--out", tmp_path / "s", *given)
    runs.assert_one_line(ended, f"--checkpoint={tmp_path / 'sd'}", "a StableDiffusionPipeline; needed is")
    ended = runs.tool("export", runs.SHAPES, tmp_path / "sd", tmp_path / "out", *given)
    runs.assert_one_line(ended, "is an export for ONNX Runtime already")
    ended = runs.tool("export", runs.SHAPES, unet, tmp_path / "out", "--compress", "int8", *given)
    runs.assert_one_line(ended, "--compress=int8: only graphs are compressed; add --runtime=")
    changes = runs.options(**runs.shapes(thin_sdxl), model__student__checkpoint=tmp_path / "sd")
    ended = runs.tool("train", runs.SHAPES, "--work-dir", tmp_path / "t", *changes)
    runs.assert_one_line(ended, f"model.student.checkpoint={tmp_path / 'sd'}", "model.onnx, a graph for a runtime")
    assert not (tmp_path / "out").exists()
