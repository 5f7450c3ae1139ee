"""The published walk-through, word for word but for the two hub names: five pictures, then `pipe.load_lora_weights`."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from runs import finish, start
from safetensors.torch import load_file

from diffdistill.config.read import load_config
from diffdistill.families.loading import freeze
from diffdistill.students.weights import make_student


@pytest.fixture(scope="module")
def ssd_1b(tiny_sdxl, tmp_path_factory):
    """The folder of a pipeline with SSD-1B's cut, tiny."""
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl, torch_dtype=torch.float32)
    keep = load_config("ssd_1b_distill_from_sdxl_pokemon_blip").model.student.keep.to_dict()
    pipe.unet = make_student(pipe.unet, keep)[0]
    folder = tmp_path_factory.mktemp("pipelines") / "SSD-1B"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dogs(tmp_path_factory):
    """Five small pictures without captions."""
    folder = tmp_path_factory.mktemp("data") / "dog-example"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"dog_{number}.jpeg")
    return folder


@pytest.fixture(scope="module")
def walk(ssd_1b, dogs, tmp_path_factory):
    """Where `mim train diffdistill ssd_1b_dreambooth_lora_dog.py` has been run, for 3 steps."""
    folder = tmp_path_factory.mktemp("walk")
    options = {
        "model.base.checkpoint": ssd_1b,
        "model.base.vae": None,
        "model.sampling.num_inference_steps": 1,
        "train_dataloader.dataset.source": dogs,
        "train_dataloader.dataset.pipeline.0.size": 32,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_cfg.max_iters": 3,
        "optim_wrapper.optimizer.lr": 0.05,
        "default_hooks.samples.prompts": None,
    }
    changes = ["--cfg-options", *(f"{key}={value}" for key, value in options.items())]
    ended = finish(start("train", "ssd_1b_dreambooth_lora_dog.py", *changes, cwd=folder))
    assert ended.code == 0, ended
    return folder


def picture(pipe) -> np.ndarray:
    options = dict(num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0))
    return pipe("a photo of sks dog", **options).images[0]


def test_the_config_trains_what_was_published():
    config = load_config("ssd_1b_dreambooth_lora_dog")
    assert config.model.base.checkpoint == "segmind/SSD-1B"
    assert config.model.adapter == dict(
        type="LoraConfig", r=8, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]
    )
    assert config.train_dataloader.dataset.prompt == "a photo of sks dog"
    assert (config.train_dataloader.batch_size, config.train_cfg.max_iters) == (2, 500)  # so the last one is step499


@pytest.mark.processes
def test_the_walk_through(walk, ssd_1b, monkeypatch):
    monkeypatch.chdir(walk)
    checkpoint = "work_dirs/ssd_1b_dreambooth_lora_dog/step2"
    pipe = DiffusionPipeline.from_pretrained(ssd_1b, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    before, weights = picture(pipe), {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    pipe.load_lora_weights(checkpoint)
    assert np.abs(picture(pipe) - before).max() > 0.01
    pipe.unload_lora_weights()
    np.testing.assert_array_equal(picture(pipe), before)
    for name, tensor in pipe.unet.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)


@pytest.mark.processes
def test_it_loads_in_half_precision_as_published(walk, ssd_1b):
    pipe = DiffusionPipeline.from_pretrained(ssd_1b, torch_dtype=torch.float16)
    pipe.load_lora_weights(str(walk / "work_dirs" / "ssd_1b_dreambooth_lora_dog" / "step2"))
    assert {parameter.dtype for name, parameter in pipe.unet.named_parameters() if "lora" in name} == {torch.float16}


@pytest.mark.processes
def test_the_lora_is_on_every_attention_of_the_student_and_on_nothing_else(walk, ssd_1b):
    (file,) = (walk / "work_dirs" / "ssd_1b_dreambooth_lora_dog" / "step2").glob("*.safetensors")
    names = {name.removeprefix("unet.").split(".lora_")[0] for name in load_file(file)}
    unet = freeze(UNet2DConditionModel.from_pretrained(ssd_1b / "unet"), torch.float32)
    ends = ("to_q", "to_k", "to_v", "to_out.0")
    assert names == {name for name, module in unet.named_modules() if name.endswith(ends)}
