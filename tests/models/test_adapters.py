"""Adapters of peft inside a denoiser: what they compute, what is trained of them, and what cannot be one."""

import copy

import pytest
import tiny
import torch
from peft_kinds import KINDS, LORA, shake
from torch import nn

from diffdistill.errors import InputError
from diffdistill.models.adapters import (
    adapter_layers,
    adapters_off,
    check_targets,
    inject,
    parameter_tree,
    take_out,
    train_adapters,
    trainable,
)


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    torch.manual_seed(0)
    return tiny.sd_unet(layers_per_block=1).requires_grad_(False)


@pytest.fixture(scope="module")
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 16, 16), torch.tensor([10, 900]), torch.randn(2, 5, tiny.WIDTH)


def call(model, inputs):
    with torch.no_grad():
        return model(*inputs, return_dict=False)[0]


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_off_taken_out_and_fused(plain, inputs, kind):
    expected = call(plain, inputs)
    model = inject(copy.deepcopy(plain), KINDS[kind], "model.adapter")
    torch.testing.assert_close(call(model, inputs), expected, rtol=1e-4, atol=1e-5)
    changed = call(shake(model), inputs)
    assert (changed - expected).abs().max() > 1e-3
    with adapters_off(model) as off:
        same(call(off, inputs), expected)
        with adapters_off(model):
            pass
        same(call(model, inputs), expected)  # a block inside another does not end it
    same(call(model, inputs), changed)
    assert all(parameter.requires_grad for parameter in trainable(model).values())
    fused = take_out(copy.deepcopy(model), fuse=True)
    bare = take_out(model, fuse=False)
    torch.testing.assert_close(call(fused, inputs), changed, rtol=1e-5, atol=1e-5)
    same(call(bare, inputs), expected)
    same(bare.state_dict(), plain.state_dict())
    assert fused.state_dict().keys() == plain.state_dict().keys()


def test_an_adapter_of_a_half_precision_model_is_in_fp32(plain):
    model = inject(copy.deepcopy(plain).bfloat16(), LORA, "model.adapter")
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    assert all(".lora_" in name for name in trainable(model))
    assert model.conv_in.weight.dtype == torch.bfloat16


def test_a_tree_holds_the_very_parameters_under_their_names(plain):
    model = inject(copy.deepcopy(plain), LORA, "model.adapter")
    weights = trainable(model)
    tree = parameter_tree(weights)
    assert {name: id(parameter) for name, parameter in tree.named_parameters()} == {
        name: id(parameter) for name, parameter in weights.items()
    }
    tree.load_state_dict({name: torch.ones_like(parameter) for name, parameter in weights.items()})
    same(next(iter(adapter_layers(model).values())).lora_B["default"].weight.sum(), torch.tensor(4.0 * 8))


def test_dropout_of_adapters_alone_is_switched(plain, inputs):
    model = inject(copy.deepcopy(plain).eval(), LORA | dict(lora_dropout=0.5), "model.adapter")
    train_adapters(shake(model), True)
    training = {name for name, module in model.named_modules() if module.training}
    assert training
    assert all(any(name.startswith(layer) for layer in adapter_layers(model)) for name in training)
    assert not any(name.endswith("base_layer") for name in training)
    assert not torch.equal(call(model, inputs), call(model, inputs))
    train_adapters(model, False)
    same(call(model, inputs), call(model, inputs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(target_modules=["to_q", "to_w"]), r"'to_w' matches no module of the UNet2DConditionModel; the nearest: to_"),
        (dict(target_modules=["attn1.to_out.O"]), r"'attn1.to_out.O' matches no .*; the nearest: attn1.to_out."),
        (dict(target_modules=None), r"model.adapter.target_modules is missing"),
        (dict(target_modules="nothing.*"), r"model.adapter \(LoraConfig\): .*nothing"),
        (dict(target_modules=["conv_norm_out"]), r"model.adapter \(LoraConfig\): .*not supported"),
        (dict(r=0), r"model.adapter \(LoraConfig\): .*positive.* 0"),
        (dict(bias="all"), r"model.adapter would train \S+bias of the base; leave out bias"),
        (
            dict(init_lora_weights="pissa"),
            "init_lora_weights='pissa' would change the weights of the base; choose one of True",
        ),
    ],
)
def test_what_cannot_be_an_adapter_is_one_line(plain, changes, message):
    with (
        torch.device("meta"),
        pytest.raises(InputError, match=f"^model.adapter[^\n]*{message.removeprefix('model.adapter')}"),
    ):
        inject(copy.deepcopy(plain).to("meta"), LORA | changes, "model.adapter")


def test_every_target_that_exists_is_known(plain):
    check_targets(plain, ["to_q", "mid_block.attentions.0", "conv_in"], "model.adapter")
