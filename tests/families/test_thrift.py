"""Frozen models that save memory say nearly, or exactly, what they said before, and training goes on beside them."""

import importlib.util
import sys

import pytest
import tiny_transformers
import torch
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.families.thrift import is_offloaded, quantizable
from diffdistill.registry import MODELS

CAPTIONS = ["a red circle", "a large blue square"]
LOSSES = dict(task=dict(type="TaskLoss"), output=dict(type="OutputKD"))
LORA = dict(type="LoraConfig", r=4, target_modules=["to_q", "to_v"])
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def pixart(tmp_path_factory):
    return tiny_transformers.write_pixart(tmp_path_factory.mktemp("thrift") / "pixart")


def distiller(folder, teacher=None, **changes):
    """A Distiller whose teacher has these keys; T5 and the denoiser are seeded, so two of them differ in these alone."""
    origin = dict(type="PixArtSigma", checkpoint=str(folder), **teacher or {})
    torch.manual_seed(0)
    return MODELS.build(dict(type="Distiller", teacher=origin, losses=LOSSES, **changes)).train()


def encoded(model):
    batch = dict(caption=CAPTIONS, pixel_values=pictures())
    torch.manual_seed(0)
    latents, condition = model.encode(batch)
    return latents, condition


def pictures():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def teachers(model, latents, condition):
    times = torch.tensor([100, 900])
    return model.predict_teacher(latents, times, condition)[0].float()


def share(found, expected):
    """The error of `found`, as a share of the deviation of what is expected."""
    return ((found - expected).square().mean().sqrt() / expected.std()).item()


def test_offloaded_models_say_the_same_and_are_not_moved(pixart):
    plain, offloaded = distiller(pixart), distiller(pixart, dict(offload=True))
    (latents, condition), (ours, our_condition) = encoded(plain), encoded(offloaded)
    assert torch.equal(latents, ours)
    assert all(torch.equal(value, our_condition[name]) for name, value in condition.items() if torch.is_tensor(value))
    pipeline = offloaded.frozen.pipeline
    assert [is_offloaded(each) for each in (pipeline.vae, pipeline.text_encoder, offloaded.teacher)] == [True, True, False]
    offloaded.to("meta")
    assert {each.device.type for model in (pipeline.vae, pipeline.text_encoder) for each in model.parameters()} == {"cpu"}
    assert {each.device.type for each in offloaded.teacher.parameters()} == {"meta"}


@needs_torchao
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_teacher_and_text_encoders_in_8_bits_say_nearly_the_same(pixart, dtype):
    plain, short = (distiller(pixart, teacher, dtype=dtype) for teacher in ({}, dict(quantize="int8")))
    for name, parameter in plain.student.named_parameters():
        assert torch.equal(parameter, short.student.get_parameter(name)), "first weights come from the teacher as it was"
    pipeline = short.frozen.pipeline
    for model in (short.teacher, pipeline.text_encoder):
        weights = [module.weight for module in model.modules() if quantizable(module)]
        assert {weight.qdata.dtype for weight in weights} == {torch.int8}
    assert not any(hasattr(module.weight, "qdata") for module in pipeline.vae.modules() if isinstance(module, nn.Linear))
    (latents, condition), (_, our_condition) = encoded(plain), encoded(short)
    text, ours = (each["encoder_hidden_states"].float() for each in (condition, our_condition))
    assert 0 < share(ours, text) < 0.05
    assert 0 < share(teachers(short, latents, condition), teachers(plain, latents, condition)) < 0.05
    loss = sum(short(mode="loss", pixel_values=pictures(), caption=CAPTIONS).values())
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in short.student.parameters())
    assert not any(hasattr(parameter, "qdata") for parameter in short.parameters())


@needs_torchao
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_learns_on_a_base_in_8_bits(pixart, dtype):
    """One denoiser in memory is the student and, with its adapter off, the teacher; both are held in 8 bits."""
    plain, short = (
        distiller(pixart, teacher, dtype=dtype, student=dict(adapter=LORA)) for teacher in ({}, dict(quantize="int8"))
    )
    assert short.teacher is short.student
    gradients = []
    for model in (plain, short):
        torch.manual_seed(1)
        loss = sum(model(mode="loss", pixel_values=pictures(), caption=CAPTIONS).values())
        loss.backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        )
    assert len(gradients[0]) == sum(parameter.numel() for parameter in plain.parameters())
    assert share(*reversed(gradients)) < 0.2
    assert short.trained.state_dict().keys() == plain.trained.state_dict().keys()


@needs_torchao
def test_what_is_trained_or_on_the_cpu_is_not_held_in_8_bits(pixart):
    base = dict(type="PixArtSigma", checkpoint=str(pixart), quantize="int8")
    tuner = MODELS.build(
        dict(type="FineTuner", base=base, losses=dict(task=dict(type="TaskLoss")), finetune_text_encoder=True)
    )
    assert not any(hasattr(parameter, "qdata") for parameter in tuner.parameters())
    assert tuner.frozen.pipeline.text_encoder in tuner.trained.values()
    both = distiller(pixart, dict(quantize="int8", offload=True))
    assert hasattr(next(module.weight for module in both.teacher.modules() if quantizable(module)), "qdata")
    assert not any(hasattr(parameter, "qdata") for parameter in both.frozen.pipeline.text_encoder.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(quantize="int4"), r"^model\.teacher\.quantize='int4' is unknown; use None or 'int8'$"),
        (dict(quantize="int8"), r"^model\.teacher\.quantize='int8' needs torchao; run `pip install torchao`, [^\n]*$"),
        (dict(offload="cpu"), r"^model\.teacher\.offload='cpu': give True or False$"),
    ],
)
def test_what_cannot_be_had_is_refused(pixart, options, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        check_model(
            dict(type="Distiller", teacher=dict(type="PixArtSigma", checkpoint=str(pixart), **options), losses=LOSSES)
        )
