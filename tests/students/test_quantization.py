"""Weights of a few bits: the values, their gradients, and that nothing but the classes of layers changes."""

import copy

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.quantization import (
    BEST_STEPS,
    LEVELS,
    Grid,
    Quantization,
    QuantizedLinear,
    bake,
    quantize_tokens,
    quantized_layers,
)
from diffdistill.students.recompute import recompute

# The squared errors of the best quantisers with evenly spaced values, of normal numbers (Max, 1960, table II).
LEAST_ERRORS = {1: 0.3634, 1.58: 0.1902, 2: 0.1188}


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def inputs_of(unet):
    torch.manual_seed(0)
    inputs = rules_of(type(unet)).inputs(unet.config, 16)
    return {
        name: torch.randn_like(each) if torch.is_tensor(each) and each.dim() > 1 else each for name, each in inputs.items()
    }


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return tiny.sd_unet()


@pytest.mark.parametrize("bits", LEVELS)
@pytest.mark.parametrize("shape", [(6, 64), (6, 64, 3, 3)])
def test_a_group_has_as_many_values_as_its_bits_say(bits, shape):
    weight = normal(*shape)
    values = Grid(bits, 32).quantize(weight)
    groups = values.unflatten(1, (2, 32)).movedim(2, -1).flatten(0, -2)
    assert all(len(group.unique()) <= LEVELS[bits] for group in groups)
    assert len(groups) == weight.numel() / 32
    assert Grid(bits, 32).codes(weight)[0].unique().diff().unique().tolist()[0] == 1


@pytest.mark.parametrize("bits", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("group", [None, 8])
def test_quantised_weights_stay_as_they_are(bits, dtype, group):
    once = Grid(bits, group).quantize(normal(5, 16, 3, 3)).to(dtype)
    once[0] = 0
    torch.testing.assert_close(
        Grid(bits, group).quantize(once), once, rtol=1e-6 if dtype == torch.float32 else 2e-3, atol=1e-30
    )


@pytest.mark.parametrize("bits", LEAST_ERRORS)
def test_few_values_lie_where_normal_weights_lose_least(bits):
    weight = normal(64, 4096)
    error = (Grid(bits).quantize(weight) - weight).square().mean().item()
    assert error == pytest.approx(LEAST_ERRORS[bits], rel=0.01)


def test_a_table_for_every_grid_that_the_largest_weight_would_spoil():
    weight = normal(512, 32)
    for bits, levels in LEVELS.items():
        top = (levels - 1) / 2
        step = weight.abs().amax(1, keepdim=True) / top
        spoilt = (((weight / step + top).round() - top) * step - weight).square().mean()
        ours = (Grid(bits).quantize(weight) - weight).square().mean()
        assert (ours < 0.8 * spoilt) == (levels in BEST_STEPS), bits


def test_gradients_reach_the_full_weights_as_they_reach_quantised_ones():
    layer, given = nn.Sequential(nn.ModuleList([nn.Linear(16, 4)])), normal(3, 16)
    layer[0][0].weight.data = normal(4, 16)
    plain = bake(Quantization(2, 8).apply(copy.deepcopy(layer)))[0][0]
    quantised = Quantization(2, 8).apply(layer)[0][0]
    for each in (plain, quantised):
        each(given).square().mean().backward()
    torch.testing.assert_close(quantised(given), plain(given), rtol=0, atol=0)
    torch.testing.assert_close(quantised.weight.grad, plain.weight.grad, rtol=0, atol=0)
    assert not torch.equal(quantised.weight, plain.weight)


def test_the_blocks_compute_with_quantised_weights_and_the_rest_with_its_own(unet):
    names, inputs = list(unet.state_dict()), inputs_of(unet)
    expected = copy.deepcopy(unet)
    for name, module in expected.named_modules():
        if (
            isinstance(module, (nn.Linear, nn.Conv2d))
            and ".attentions.0." not in f"{name}."
            and name.startswith(("up_", "down_", "mid_"))
        ):
            module.weight.data = Grid(3, 8).quantize(module.weight.data)
    quantised = Quantization(3, 8, skip=["*_blocks.*.attentions.0", "mid_block.attentions.0"]).apply(unet)
    assert list(quantised.state_dict()) == names
    outputs = [each(**inputs).sample for each in (quantised, copy.deepcopy(quantised), expected)]
    torch.testing.assert_close(outputs[0], outputs[2], rtol=0, atol=0)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    baked = bake(copy.deepcopy(quantised))
    assert {type(each) for each in baked.modules()} == {type(each) for each in tiny.sd_unet().modules()}
    torch.testing.assert_close(baked(**inputs).sample, outputs[2], rtol=0, atol=0)


def test_recomputing_changes_no_gradient(unet):
    unet, inputs = Quantization(2, 8).apply(unet).train(), inputs_of(unet)
    gradients = []
    for choice in (False, True):
        recompute(unet, choice)
        unet.zero_grad()
        unet(**inputs).sample.square().mean().backward()
        gradients.append({name: each.grad.clone() for name, each in unet.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-9)


def test_inputs_of_linear_layers_have_a_scale_for_each_token():
    given = normal(2, 5, 16) * torch.tensor([1.0, 10, 100, 1000, 0])[:, None]
    found = quantize_tokens(given)
    assert (found - given).abs().le(given.abs().amax(-1, keepdim=True) / 254 * 1.001).all()
    layer = nn.Sequential(nn.ModuleList([nn.Linear(16, 4), nn.Conv2d(16, 4, 1)]))
    layer = bake(Quantization(8, activations=8).apply(layer))[0]
    torch.testing.assert_close(layer[0](given), F.linear(found, layer[0].weight, layer[0].bias), rtol=0, atol=0)
    assert isinstance(layer[0], QuantizedLinear)
    assert not quantized_layers(layer)


def test_convolutions_of_separate_channels_stay_whole():
    layers = nn.Sequential(nn.ModuleList([nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3)]))
    assert list(Quantization(4, 8).layers(layers)) == ["0.1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(bits=5), ["bits=5", "8, 4, 3, 2, 1.58"]),
        (dict(bits=True), ["bits=True"]),
        (dict(bits=8, group_size=32), ["group_size=32", "leave it out"]),
        (dict(bits=4, group_size=1), ["group_size=1", "such as 32"]),
        (dict(bits=4, activations=8), ["activations=8", "bits=4"]),
        (dict(bits=8, activations=4), ["activations=4"]),
        (dict(bits=2), ["group_size=32", "8 input channels of down_blocks.0", "use 8"]),
        (dict(bits=2, group_size=8, skip=["up_block"]), ["skip", "'up_block'", "up_blocks.2"]),
        (dict(bits=8, skip=["*_blocks", "mid_block"]), ["skip=", "no layer"]),
    ],
)
def test_what_cannot_be_is_said_in_a_line(options, words, unet):
    with pytest.raises(InputError) as raised:
        Quantization(**options).layers(unet)
    assert all(word in str(raised.value) for word in words), raised.value
