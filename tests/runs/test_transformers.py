"""A transformer through every tool, as a user would: from a run of a tiny SD3 pipeline to a pipeline of plain diffusers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import runs
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from diffdistill.config.read import load_config
from diffdistill.runs.load import Trained, exported_student
from diffdistill.students.weights import make_student

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


# LoRAs


def random_lora(pipeline, folder, **options) -> None:
    """Write a LoRA with random weights for the transformer and the first text encoder of `pipeline`."""
    torch.manual_seed(0)
    states = {}
    for name, targets in (("transformer", ["to_q", "add_k_proj", "proj_out"]), ("text_encoder", ["q_proj"])):
        model = getattr(pipeline, name)
        model.add_adapter(LoraConfig(r=2, lora_alpha=3, init_lora_weights=False, target_modules=targets, **options))
        for key, parameter in model.named_parameters():
            if ".lora_" in key:
                nn.init.normal_(parameter, std=0.1)
        states[f"{name}_lora_layers"] = get_peft_model_state_dict(model)
        states[f"{name}_lora_adapter_metadata"] = model.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder, **states)
    pipeline.unload_lora_weights()


def changes(pipeline, lora, *names) -> list[dict]:
    """What diffusers makes of `lora`: the change of every tensor of the models of those names."""
    models = [getattr(pipeline, name) for name in names]
    before = [{key: tensor.clone() for key, tensor in model.state_dict().items()} for model in models]
    pipeline.load_lora_weights(lora)
    pipeline.fuse_lora(components=list(names))
    pipeline.unload_lora_weights()
    after = [model.state_dict() for model in models]
    return [{key: new[key] - old[key] for key in old} for old, new in zip(before, after, strict=True)]


def load(folder, **parts) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline.from_pretrained(folder, **NULL_PARTS, **parts)


def test_a_lora_changes_each_block_as_its_teachers(tiny_sd3, sd3_config, tmp_path):
    random_lora(load(tiny_sd3), tmp_path / "lora")
    ended = runs.tool("transfer_lora", tmp_path / "lora", sd3_config, tmp_path / "out", "--json", tmp_path / "figures.json")
    assert ended.code == 0, ended
    stages = json.loads((tmp_path / "figures.json").read_text())["stages"]
    counts = {stage: (row["layers"], row["layers_kept"]) for stage, row in stages.items()}
    assert counts == {"transformer_blocks": (8, 4), "outside the stages": (1, 1), "text_encoder": (2, 2)}
    teacher = load(tiny_sd3)
    student, layers = make_student(teacher.transformer, {"transformer_blocks": [0, 3]})
    names = ("transformer", "text_encoder")
    theirs, encoder = changes(teacher, tmp_path / "lora", *names)
    ours, same_encoder = changes(load(tiny_sd3, transformer=student.eval()), tmp_path / "out", *names)
    changed = 0
    for name, change in ours.items():
        expected = theirs[layers.to_teacher(name)]
        assert (change - expected).norm() <= 1e-5 * expected.norm(), name
        changed += bool(change.any())
    assert changed == 5
    torch.testing.assert_close(same_encoder, encoder)
    assert any(change.any() for change in encoder.values())


def test_a_lora_of_another_family_is_refused_by_both_names(tiny_sd, tiny_sd3, sd3_config, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv_in"]))
    pipeline.save_lora_weights(tmp_path / "unet", unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
    ended = runs.tool("transfer_lora", tmp_path / "unet", sd3_config, tmp_path / "out")
    assert ended.code == 2
    assert f"it adapts unet, which the teacher {tiny_sd3} does not have; it was made for a " in ended.err
    assert "StableDiffusionPipeline" in ended.err
    assert "and this is a StableDiffusion3Pipeline" in ended.err
    assert ended.err.count("\n") == 1


def test_an_adapter_of_a_transformer_loads_in_its_pipeline(tiny_sd3, sd3_config, tmp_path):
    """Trained for a step, exported beside its base, and left to diffusers."""
    adapter = "{'type': 'LoraConfig', 'r': 2, 'target_modules': ['to_q', 'to_v']}"
    config = tmp_path / "lora.py"
    config.write_text(f"_base_ = [{str(sd3_config)!r}]\nmodel = dict(student=dict(_delete_=True, adapter={adapter}))\n")
    options = dict(train_cfg__max_iters=1, default_hooks__samples__prompts=None)
    run = runs.trained(config, tmp_path / "run", options).work_dir
    tensors = load_file(run / "step0" / "pytorch_lora_weights.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"transformer"}
    assert runs.tool("export", config, run / "step0", tmp_path / "out", "--dtype", "float32").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'pipeline.load_lora_weights("out")' in card
    pipeline = load(tmp_path / "out")
    (change,) = changes(pipeline, tmp_path / "out", "transformer")
    assert sum(bool(each.any()) for each in change.values()) == 8
