"""An assistant: it changes training steps alone, and what was learned beside it stays when it is taken out."""

import copy

import diffusers
import numpy as np
import pytest
import torch
from peft_kinds import shake
from safetensors.torch import load_file, save_file

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.models.finetuner import FineTuner
from diffdistill.models.saved import LORA_FILE, load_trained, save_adapters

LORA = dict(type="LoraConfig", r=4, lora_alpha=8, target_modules=["attn2.to_q", "attn2.to_v"])
CONVOLUTIONS = dict(type="LoraConfig", r=2, lora_alpha=6, target_modules=["conv1", "attn2.to_q"])
STEPS = dict(num_inference_steps=2, guidance_scale=1.0)


def tuner(folder, **options):
    options = dict(losses=dict(task=dict(type="TaskLoss")), sampling=STEPS, adapter=LORA) | options
    return FineTuner(base=dict(type="StableDiffusion", checkpoint=str(folder)), **options)


@pytest.fixture(scope="module")
def assistant(tiny_sd, tmp_path_factory):
    """An assistant on layers of which the subject's LoRA has some, and others that it has not."""
    model = tuner(tiny_sd, adapter=CONVOLUTIONS)
    shake(model.student)
    return save_adapters(model, tmp_path_factory.mktemp("assistant") / "step9")


@pytest.fixture
def batch():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return dict(pixel_values=pictures, caption=["a red circle", "a dog"])


def loss_of(model, batch):
    torch.manual_seed(0)
    return model(**batch, mode="loss")["loss_task"]


def test_a_step_is_one_of_the_base_with_the_assistant(tiny_sd, assistant, batch):
    """As diffusers computes it, which has loaded the assistant by itself."""
    model = tuner(tiny_sd, assistant=str(assistant))
    plain = tuner(tiny_sd)
    assert loss_of(model, batch) != loss_of(plain, batch)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipe.load_lora_weights(assistant)
    noisy, prompts = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 32)
    times = torch.tensor([10, 900])
    with torch.no_grad():
        expected = pipe.unet(noisy, times, prompts).sample
        found = model.student.eval()(noisy, times, prompts).sample
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_pictures_are_drawn_without_it(tiny_sd, assistant, batch):
    model, plain = tuner(tiny_sd, assistant=str(assistant)), tuner(tiny_sd)
    before = loss_of(model, batch)
    for each in (model, plain):
        torch.manual_seed(1)
        shake(each.trained)
    model.load_state_dict(plain.state_dict())
    assert (model.sample(["a dog"], [3]) == plain.sample(["a dog"], [3])).all()
    assert loss_of(model, batch) != loss_of(plain, batch)
    assert before > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_second_lora_alone_is_trained_and_saved(tiny_sd, assistant, batch, dtype, tmp_path):
    model = tuner(tiny_sd, assistant=str(assistant), dtype=dtype).train()
    names = {name for name, _ in model.named_parameters()}
    assert names == set(model.state_dict()) == {name for name, _ in tuner(tiny_sd).named_parameters()}
    frozen = {name: each for name, each in model.student.named_parameters() if ".assistant." in name}
    assert {each.dtype for each in frozen.values()} == {getattr(torch, dtype)}
    before = copy.deepcopy(frozen)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss_of(model, batch).backward()
    optimizer.step()
    model.sample(["a dog"], [0])
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen.values())
    assert all(torch.equal(before[name], parameter) for name, parameter in frozen.items())
    save_adapters(model, tmp_path / "step0")
    saved = load_file(tmp_path / "step0" / LORA_FILE)
    assert len(saved) == len(names)
    assert not any("assistant" in name or "conv1" in name for name in saved)
    twin = tuner(tiny_sd)
    load_trained(twin, tmp_path / "step0")
    torch.testing.assert_close(dict(twin.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_stock_diffusers_draws_what_validation_drew(tiny_sd, assistant, tmp_path):
    """From the student's pipeline and the exported LoRA alone."""
    model = tuner(tiny_sd, assistant=str(assistant))
    torch.manual_seed(1)
    shake(model.trained)
    save_adapters(model, tmp_path / "step0")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipe.load_lora_weights(tmp_path / "step0")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = pipe("a dog", generator=generator, output_type="latent", **STEPS).images
    ours = model.sample_latents(["a dog"], [3])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert np.abs((ours - tuner(tiny_sd).sample_latents(["a dog"], [3])).numpy()).max() > 1e-3


def test_a_model_without_losses_has_no_assistant(tiny_sd):
    """Such a model is there to be exported, perhaps on another machine."""
    model = tuner(tiny_sd, assistant="/nowhere", losses={})
    assert not [name for name, _ in model.student.named_parameters() if "assistant" in name]


def refusal(folder, **options) -> str:
    base = dict(type="StableDiffusion", checkpoint=str(folder))
    losses = dict(task=dict(type="TaskLoss"))
    with pytest.raises(InputError) as raised:
        check_model(dict(type="FineTuner", base=base, losses=losses, adapter=LORA) | options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_an_assistant_needs_a_lora_beside_it(tiny_sd, assistant):
    assert "no model.adapter, so the denoiser is trained whole" in refusal(tiny_sd, adapter=None, assistant=str(assistant))
    other = dict(type="LoHaConfig", r=4, target_modules=["attn2.to_q"])
    assert "model.adapter.type=LoHaConfig" in refusal(tiny_sd, adapter=other, assistant=str(assistant))


def test_an_assistant_must_be_there_whole(tiny_sd, assistant, tmp_path):
    assert f"model.assistant={tmp_path}: no {LORA_FILE} there; train the assistant first" in refusal(
        tiny_sd, assistant=str(tmp_path)
    )
    (tmp_path / LORA_FILE).write_bytes((assistant / LORA_FILE).read_bytes()[:-100])
    assert "is cut short or damaged" in refusal(tiny_sd, assistant=str(tmp_path))
    save_file({"text_encoder.q_proj.lora_A.weight": torch.zeros(2, 2)}, tmp_path / LORA_FILE)
    assert "holds text_encoder.q_proj.lora_A.weight; an assistant is a LoRA of the unet" in refusal(
        tiny_sd, assistant=str(tmp_path)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(name="unet.mid_block.attentions.9.proj_in.lora_A.weight"), "belongs to no layer of the student"),
        (dict(shape=(2, 3)), "of shape (2, 3) does not fit the student's"),
    ],
)
def test_an_assistant_of_another_model_is_refused(tiny_sd, assistant, tmp_path, change, message):
    tensors = load_file(assistant / LORA_FILE)
    name = next(name for name in tensors if name.endswith("lora_A.weight"))
    tensor = tensors.pop(name)
    tensors[change.get("name", name)] = torch.zeros(change.get("shape", tensor.shape))
    save_file(tensors, tmp_path / LORA_FILE)
    found = refusal(tiny_sd, assistant=str(tmp_path))
    assert message in found
    assert "another model" in found
