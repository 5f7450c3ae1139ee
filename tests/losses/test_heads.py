"""Heads of a discriminator: what they make of maps and tokens, and their options."""

import pytest
import torch
from torch import nn

from diffdistill.errors import InputError
from diffdistill.losses.heads import Discriminator, ResidualHead, StridedHead
from diffdistill.registry import MODELS, build_part

MAP, TOKENS = (1, 16, 8, 8), (1, 24, 16)


@pytest.mark.parametrize(
    ("head", "shape", "logits"),
    [
        (ResidualHead(), MAP, (2, 1, 8, 8)),
        (ResidualHead(), TOKENS, (2, 1, 24)),
        (StridedHead(), MAP, (2, 1, 3, 3)),
        (StridedHead(), TOKENS, (2, 1, 2)),
        (StridedHead(), (1, 16, 1, 2), (2, 1, 2, 3)),  # less than its kernel
    ],
)
def test_logits_of_maps_and_tokens(head, shape, logits):
    discriminator = Discriminator({"layer": shape}, head)
    (found,) = discriminator({"layer": torch.randn(2, *shape[1:], dtype=torch.bfloat16)})
    assert found.shape == logits
    assert found.dtype == torch.float32


def test_dmd2s_head_is_that_of_the_paper_on_sdxls_mid_block():
    """Four 4 x 4 convolutions with 32 groups of 1280 channels, then 1 x 1."""
    with torch.device("meta"):
        head = StridedHead()((1, 1280, 32, 32))
    convs = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.kernel_size[0] for conv in convs] == [4, 4, 4, 4, 1]
    assert [conv.stride[0] for conv in convs] == [2, 2, 2, 1, 1]
    assert {module.num_groups for module in head.modules() if isinstance(module, nn.GroupNorm)} == {32}
    assert sum(parameter.numel() for parameter in head.parameters()) == 4 * (16 * 1280**2 + 3 * 1280) + 1281


@pytest.mark.parametrize("kind", [ResidualHead, StridedHead])
def test_a_width_of_its_own(kind):
    wide, narrow = (kind(width=width)(MAP) for width in (None, 8))
    assert sum(each.numel() for each in narrow.parameters()) < sum(each.numel() for each in wide.parameters())
    assert narrow(torch.randn(MAP)).shape == wide(torch.randn(MAP)).shape


@pytest.mark.parametrize("kind", [ResidualHead, StridedHead])
def test_spectral_norm_bounds_how_far_a_convolution_stretches(kind):
    torch.manual_seed(0)
    largest = {}
    for spectral in (False, True):
        head = kind(spectral=spectral)(TOKENS)
        for parameter in head.parameters():
            parameter.data *= 10
        convs = [module for module in head.modules() if isinstance(module, nn.Conv1d)]
        for _ in range(30):  # each pass of training takes a step towards the largest singular value
            head(torch.randn(1, 16, 24))
        largest[spectral] = [torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() for conv in convs]
    assert largest[True] == pytest.approx([1.0] * len(largest[True]), rel=0.05)
    assert min(largest[False]) > 2


@pytest.mark.parametrize("kind", [ResidualHead, StridedHead])
def test_a_logit_depends_on_its_own_picture_alone(kind):
    head = kind()(MAP).eval()
    features = torch.randn(3, *MAP[1:])
    torch.testing.assert_close(head(features)[:1], head(features[:1]), rtol=1e-4, atol=1e-5)


def test_a_residual_head_sees_neighbours():
    head = ResidualHead()(TOKENS).eval()
    features = torch.randn(1, 16, 24, requires_grad=True)
    head[1].block[0].register_forward_hook(lambda module, inputs, output: output[0, :, 12].sum().backward(retain_graph=True))
    head[1].block[0](features)
    assert features.grad.abs().sum(1)[0].nonzero().flatten().tolist() == list(range(8, 17))


@pytest.mark.parametrize("width", [0, 1.5, "all"])
def test_no_width(width):
    with pytest.raises(InputError, match=rf"^model\.head\.width={width!r}: give a whole number of 1 or more$"):
        build_part(MODELS, dict(type="StridedHead", width=width), "model.head")
