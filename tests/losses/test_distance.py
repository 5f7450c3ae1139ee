"""Distances against their definitions, and the samples of a batch that count more than others."""

import math

import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.losses import FeatureKD, OutputKD, PriorKD, PseudoHuber, TaskLoss
from diffdistill.noise import VariancePreserving
from diffdistill.registry import MODELS
from diffdistill.step import Step, prior_weights

ALPHAS = torch.tensor([0.9, 0.5, 0.1])
LOSSES = [
    dict(),
    dict(weighting=dict(type="MinSNR")),
    dict(distance=dict(type="PseudoHuber")),
    dict(weighting=dict(type="SNRPlusOne"), distance=dict(type="PseudoHuber", per_element=True)),
]


def step(size=4, **changes):
    generator = torch.Generator().manual_seed(0)
    prediction, target, teacher = torch.randn(3, size, 4, 5, 7, generator=generator)
    timesteps = torch.arange(size) % 3
    features = {"a <- a": (prediction, teacher)}
    return Step(
        target, timesteps, prediction, target, VariancePreserving(ALPHAS, "v_prediction"),
        teacher_prediction=teacher, features=features, **changes,
    )  # fmt: skip


def part(whole, rows):
    """The step of some samples alone."""
    return Step(
        whole.noisy[rows], whole.timesteps[rows], whole.prediction[rows], whole.target[rows], whole.schedule,
        teacher_prediction=whole.teacher_prediction[rows],
    )  # fmt: skip


def test_pseudo_huber_is_that_of_the_paper():
    """sqrt(|a - b|^2 + c^2) - c over all elements of a sample, and c = 0.00054 sqrt(d)."""
    each = step()
    squares = (each.prediction - each.target).double().square().sum((1, 2, 3))
    for c in (None, 0.5, 30.0):
        offset = 0.00054 * math.sqrt(4 * 5 * 7) if c is None else c
        expected = (squares + offset**2).sqrt() - offset
        torch.testing.assert_close(PseudoHuber(c)(each.prediction, each.target), expected.float())


@pytest.mark.parametrize("c", [None, 0.2])
def test_pseudo_huber_of_each_element_is_that_of_the_lcm_scripts(c):
    each = step()
    offset = 0.001 if c is None else c
    expected = torch.mean(torch.sqrt((each.prediction - each.target) ** 2 + offset**2) - offset)
    value = TaskLoss(distance=dict(type="PseudoHuber", c=c, per_element=True))(each)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("per_element", [False, True])
def test_small_differences_are_not_lost(per_element):
    """Quadratic below c: |d|^2 / 2c, also where that is far below the precision of c."""
    one = torch.full((1, 1, 1, 1), 1e-7)
    value = PseudoHuber(1.0, per_element)(one, torch.zeros_like(one))
    torch.testing.assert_close(value.item(), 5e-15, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", LOSSES)
def test_half_precision_is_compared_in_fp32(dtype, options):
    each = step()
    each.prediction, each.target = (300 * x.to(dtype) for x in (each.prediction, each.target))
    loss = TaskLoss(**options)
    value = loss(each)
    each.prediction, each.target = each.prediction.float(), each.target.float()
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(each))


@pytest.mark.parametrize("c", [0, -0.1, "small"])
def test_c_must_be_positive(c):
    with pytest.raises(InputError, match=f"^PseudoHuber: c={c!r} must be a number above 0$"):
        PseudoHuber(c)


@pytest.mark.parametrize("options", LOSSES)
@pytest.mark.parametrize("prior_weight", [1.0, 0.3])
@pytest.mark.parametrize("is_prior", [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_prior_preservation_is_that_of_dreambooth(options, prior_weight, is_prior):
    """L_instance + lambda L_prior (eq. 2), each the mean over its own samples, with every weighting and distance."""
    is_prior = torch.tensor(is_prior, dtype=torch.bool)
    whole = step(sample_weights=prior_weights(is_prior, prior_weight))
    loss = TaskLoss(**options)
    expected = sum(
        scale * loss(part(whole, rows)) for scale, rows in ((1, ~is_prior), (prior_weight, is_prior)) if rows.any()
    )
    torch.testing.assert_close(loss(whole), expected)


def test_weights_of_two_halves():
    assert prior_weights(torch.tensor([False, True]), 0.5).tolist() == [2, 1]


@pytest.mark.parametrize("options", LOSSES)
def test_weights_of_one_change_nothing(options):
    loss = TaskLoss(**options)
    torch.testing.assert_close(loss(step(sample_weights=torch.ones(4))), loss(step()))


def test_without_options_a_loss_is_torchs_own():
    """To the last bit, gradients too: figures that were recorded before there were options stay valid."""
    each = step()
    gradients = []
    for function in (TaskLoss(), lambda each: torch.nn.functional.mse_loss(each.prediction, each.target)):
        each.prediction = each.prediction.detach().requires_grad_()
        value = function(each)
        gradients.append((value.detach(), *torch.autograd.grad(value, each.prediction)))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_weights_of_any_dtype_count_their_own_sample():
    """Where weights (B, 1) met distances (B,), every sample would get the weights of all."""
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0])
    alone = TaskLoss()(part(step(), slice(0, 1))) / 4
    for given in (weights, weights.double(), weights.half(), weights[:, None]):
        value = TaskLoss()(step(sample_weights=given))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, alone)


@pytest.mark.parametrize("kind", [OutputKD, FeatureKD])
def test_what_the_teacher_answers_counts_alike(kind):
    assert torch.equal(kind()(step(sample_weights=torch.arange(4.0))), kind()(step()))


@pytest.mark.parametrize("options", LOSSES)
@pytest.mark.parametrize("is_prior", [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
def test_the_teacher_answers_for_class_pictures_alone(options, is_prior):
    """The mean over those whose weight in the data is 0."""
    is_prior = torch.tensor(is_prior, dtype=torch.bool)
    whole = step(sample_weights=prior_weights(is_prior, 0.0))
    torch.testing.assert_close(PriorKD(**options)(whole), OutputKD(**options)(part(whole, is_prior)))


@pytest.mark.parametrize("kind", ["TaskLoss", "OutputKD"])
def test_distances_come_from_the_config(kind):
    plain, robust = (MODELS.build(dict(type=kind, distance=distance)) for distance in (None, dict(type="PseudoHuber")))
    each = step()
    target = each.target if kind == "TaskLoss" else each.teacher_prediction
    torch.testing.assert_close(robust(each), PseudoHuber()(each.prediction, target).mean())
    assert robust(each) != plain(each)
