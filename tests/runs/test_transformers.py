"""A transformer through every tool, as a user would: from a run of a tiny SD3 pipeline to a pipeline of plain diffusers."""

import json
import re
from pathlib import Path

import numpy as np
import peft
import pytest
import runs
import tiny_transformers
import torch
from diffusers import (
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from PIL import Image

from diffdistill.benchmarks.candidates import Loader
from diffdistill.benchmarks.inference import Entry, Protocol, call_pipeline
from diffdistill.benchmarks.variants import Variant
from diffdistill.config.read import load_config
from diffdistill.runs.load import Trained, exported_student

NULL_PARTS = dict(text_encoder_3=None, tokenizer_3=None)


@pytest.fixture(scope="module")
def exported(sd3_run, sd3_config, tmp_path_factory) -> Path:
    """The run's pipeline, by `tools/export.py`."""
    folder = tmp_path_factory.mktemp("exported") / "student"
    ended = runs.tool("export", sd3_config, sd3_run.work_dir / "transformer", folder, "--dtype", "float32")
    assert ended.code == 0, ended
    return folder


def trained(sd3_run, sd3_config):
    return Trained(load_config(str(sd3_config)), str(sd3_run.work_dir / "transformer")).load()


def test_the_student_loads_in_plain_diffusers_and_draws_the_same_pictures(sd3_run, sd3_config, exported):
    denoiser, problems = SD3Transformer2DModel.from_pretrained(exported / "transformer", output_loading_info=True)
    assert not any(problems.values())
    assert denoiser.config.num_layers == 2
    pipeline = StableDiffusion3Pipeline.from_pretrained(exported, **NULL_PARTS)
    pipeline.set_progress_bar_config(disable=True)
    model, seeds = trained(sd3_run, sd3_config), [0, 7]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    captions = ["a red circle", "a small blue square"]
    options = dict(num_inference_steps=2, guidance_scale=3.0, max_sequence_length=1)
    latents = pipeline(captions, generator=generators, output_type="latent", **options).images
    torch.testing.assert_close(latents, model.sample_latents(captions, seeds), rtol=1e-5, atol=1e-5)


def test_the_card_says_how_to_load_and_call_it(exported):
    card = (exported / "README.md").read_text()
    assert "- stable-diffusion-3\n" in card
    assert "| transformer blocks | 4 | 2 | 50" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert "text_encoder_3=None, tokenizer_3=None" in code
    assert "max_sequence_length=1" in code
    found = {}
    exec(code.replace('"student"', repr(str(exported))), found)
    assert found["image"].size == (32, 32)


def test_pictures_of_the_run_and_of_its_pipeline_are_the_same(sd3_run, sd3_config, exported, tmp_path):
    """The pipeline has the tokens of its own default."""
    changes, source = (
        runs.options(model__teacher__max_sequence_length=256),
        f"{sd3_config}={sd3_run.work_dir / 'transformer'}",
    )
    prompt = ["--prompt", "a dog", "--steps", 2, "--guidance-scale", 3, "--out", tmp_path]
    ended = runs.tool("sample", source, exported, *prompt, *changes)
    assert ended.code == 0, ended
    student, pipeline = (
        np.asarray(Image.open(tmp_path / f"{name}_0.png"), int) for name in ("tiny_sd3_half_sd3", "student")
    )
    assert np.abs(student - pipeline).max() <= 1


def test_a_run_goes_on_bit_for_bit(sd3_run, sd3_config, tmp_path):
    (tmp_path / "last_checkpoint").write_text(str(sd3_run.work_dir / "iter_1.pth"))
    runs.trained(sd3_config, tmp_path, {}, "--resume", str(sd3_run.work_dir / "iter_1.pth"))
    whole, resumed = runs.checkpoint(sd3_run.work_dir, 2), runs.checkpoint(tmp_path, 2)
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    for ours, theirs in zip(*(each["optimizer"]["state"].values() for each in (whole, resumed)), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_default_checkpoint_is_where_the_family_keeps_its_denoiser(sd3_run, sd3_config):
    config = load_config(str(sd3_config), work_dir=str(sd3_run.work_dir))
    assert exported_student(config) == str(sd3_run.work_dir / "transformer")


def test_summary_and_an_untrained_student(sd3_config, tmp_path):
    ended = runs.tool("summary", sd3_config)
    assert ended.code == 0, ended
    assert re.search(r"transformer blocks +4 +2 +50 %", ended.out)
    assert "■□□■" in ended.out
    assert "ResNet" not in ended.out
    assert runs.tool("make_student", sd3_config, tmp_path / "out").code == 0
    student = SD3Transformer2DModel.from_pretrained(tmp_path / "out")
    figures = json.loads(runs.tool("summary", sd3_config, "--json").out)
    assert student.num_parameters() == figures["student"]["parameters"] == 84_864


def test_the_page_draws_the_blocks(sd3_run):
    page = (sd3_run.work_dir / "report.html").read_text()
    assert 'aria-label="2 layers kept of 4"' in page
    assert ">transformer blocks</text>" in page
    assert " ResNet</span>" not in page


# The other families


def write_config(file: Path, sd3_config: Path, family: str, teacher: Path, model: str) -> Path:
    """`sd3_config` with the teacher of another family; `model` is what else differs."""
    file.write_text(
        f"_base_ = [{str(sd3_config)!r}]\nmodel = dict(\n"
        f"    teacher=dict(_delete_=True, type={family!r}, checkpoint={str(teacher)!r}),\n    {model}\n)\n"
        "train_cfg = dict(max_iters=1)\ndefault_hooks = dict(samples=dict(prompts=None))\n"
    )
    return file


def test_an_adapter_that_no_pipeline_loads_is_left_to_peft(sd3_config, tmp_path):
    """Of PixArt-Sigma; what the run leaves is found again, exported, and no LoRA to transfer."""
    teacher = tiny_transformers.write_pixart(tmp_path / "pixart")
    adapter = "adapter=dict(type='LoraConfig', r=2, target_modules=['to_q', 'to_v'])"
    model = f"student=dict(_delete_=True, {adapter}), method=dict(_delete_=True, type='DenoisingKD'),"
    config = write_config(tmp_path / "pixart_lora.py", sd3_config, "PixArtSigma", teacher, model)
    run = runs.trained(config, tmp_path / "run", {}).work_dir
    (file,) = (run / "step0").rglob("*.safetensors")
    assert file == run / "step0" / "transformer" / "adapter_model.safetensors"
    assert runs.tool("export", config, run / "step0", tmp_path / "out", "--dtype", "float32").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'peft.PeftModel.from_pretrained(pipeline.transformer, "out/transformer")' in card
    assert "clean_caption=False, use_resolution_binning=False" in card
    peft.PeftModel.from_pretrained(PixArtTransformer2DModel.from_pretrained(teacher / "transformer"), file.parent)
    ended = runs.tool("transfer_lora", file.parent, config, tmp_path / "lora")
    assert ended.code == 2
    assert "diffusers loads no LoRA into a PixArtSigmaPipeline" in ended.err


def test_guidance_of_qwen_image(sd3_config, tmp_path):
    """Its scale has another name: in the protocol, in the card, and in the benchmark, where it doubles the calls."""
    teacher = tiny_transformers.write_qwen(tmp_path / "qwen")
    sampling = "num_inference_steps=2, true_cfg_scale=3.0, negative_prompt=' ', height=32, width=32"
    config = write_config(
        tmp_path / "half.py", sd3_config, "QwenImage", teacher, f"sampling=dict(_delete_=True, {sampling}),"
    )
    run = runs.trained(config, tmp_path / "run", {}).work_dir
    assert runs.tool("export", config, run / "transformer", tmp_path / "out").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "image = pipeline(prompt, num_inference_steps=2, true_cfg_scale=3.0, negative_prompt=' '" in card
    assert "FlowMatchEulerDiscreteScheduler, 2 steps; 32 x 32 pixels; true_cfg_scale 3.0" in card
    candidate, calls = Loader(torch.float32, "cpu").load(str(teacher)), []
    candidate.denoiser.register_forward_pre_hook(lambda *args: calls.append(1))
    protocol = Protocol("cpu", "float32", resolution=32, steps=2)
    call_pipeline(Entry(candidate, Variant("eager")), protocol)()
    assert len(calls) == 4
