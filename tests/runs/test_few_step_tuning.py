"""The shipped runs that tune a student of two steps, made tiny: what they leave draws its two steps in plain diffusers."""

import shutil

import diffusers
import numpy as np
import pytest
import runs
import torch

from diffdistill.config.read import load_config
from diffdistill.runs.load import Trained

TARGETS = ["attn2.to_q", "conv1"]
CAPTION, SEED = "a large red circle", 7


@pytest.fixture(scope="module")
def student(shallow_sdxl, tmp_path_factory):
    """The folder of a pipeline whose scheduler takes trailing DDIM steps, as an export of a few-step student has."""
    folder = tmp_path_factory.mktemp("students") / "two_steps"
    shutil.copytree(shallow_sdxl, folder)
    own = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    trailing = dict(timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False)
    diffusers.DDIMScheduler.from_config(own.config, **trailing).save_pretrained(folder / "scheduler")
    return folder


def changes(origin: str, student, **others) -> dict:
    return {
        f"model__{origin}__checkpoint": student,
        "train_dataloader__batch_size": 1,
        "train_cfg__max_iters": 2,
        "train_cfg__val_interval": 2,
        "optim_wrapper__optimizer__lr": 0.05,
        "param_scheduler": None,
        "val_dataloader__dataset__length": 2,
        "default_hooks__samples__prompts": None,
        "default_hooks__logger__interval": 1,
        "default_hooks__baseline": None,
    } | others


def star(origin: str, student, adapter: str, **others) -> dict:
    few = dict(train_dataloader__dataset__class_images__count=2, val_dataloader__dataset__stars=2)
    return changes(origin, student, **{f"{adapter}__target_modules": TARGETS}, **few, **others)


def assert_plain_diffusers_draws_it(run, config: str, options: dict, student) -> None:
    """The student's pipeline with the LoRA of the run alone, in its own two steps, is what validation draws."""
    read = load_config(config, {key.replace("__", "."): value for key, value in options.items()}, str(run.work_dir))
    model = Trained(read, str(run.work_dir / "step1")).load()
    ours = model.sample_latents([CAPTION], [SEED])
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(student)
    pipe.set_progress_bar_config(disable=True)
    call = dict(num_inference_steps=2, guidance_scale=1.0, output_type="latent")

    def draw():
        return pipe(CAPTION, generator=torch.Generator().manual_seed(SEED), **call).images

    untuned = draw()
    pipe.load_lora_weights(run.work_dir / "step1")
    assert np.abs((draw() - ours).numpy()).max() <= 1e-5
    assert np.abs((untuned - ours).numpy()).max() > 1e-3
    exported = diffusers.DDIMScheduler.from_pretrained(run.work_dir / "scheduler")
    assert exported.config.timestep_spacing == "trailing"


def test_on_the_grid(student, tmp_path):
    config = "sdxl_shapes_two_steps_dreambooth_grid_star"
    options = star("teacher", student, "model__student__adapter")
    run = runs.trained(config, tmp_path / "run", options)
    assert "loss_prior" in run.out
    assert_plain_diffusers_draws_it(run, config, options, student)


def test_beside_an_assistant(student, tmp_path):
    assistant = "sdxl_shapes_two_steps_assistant"
    options = changes("base", student, model__adapter__target_modules=["attn2.to_q"], model__sampling__num_inference_steps=2)
    first = runs.trained(assistant, tmp_path / "assistant", options)
    config = "sdxl_shapes_two_steps_dreambooth_assisted_star"
    options = star("base", student, "model__adapter", model__assistant=first.work_dir / "step1")
    run = runs.trained(config, tmp_path / "run", options)
    assert_plain_diffusers_draws_it(run, config, options, student)


@pytest.mark.parametrize("dataset", [{"class_images__weight": 0.3}, {"class_images": None}])
def test_the_prior_needs_class_pictures_that_the_data_leaves_out(student, tmp_path, dataset):
    options = star("teacher", student, "model__student__adapter")
    for key, value in dataset.items():
        options = {name: each for name, each in options.items() if not name.endswith("class_images__count")}
        options[f"train_dataloader__dataset__{key}"] = value
    config = "sdxl_shapes_two_steps_dreambooth_grid_star"
    ended = runs.tool("train", config, "--work-dir", tmp_path / "run", *runs.options(**options))
    runs.assert_one_line(ended, "model.losses.prior: PriorKD compares class pictures", "class_images.weight=0")
    assert not (tmp_path / "run").exists()
