"""The losses, against values computed by hand."""

import pytest
import torch

from diffdistill.losses import FeatureKD, OutputKD, TaskLoss
from diffdistill.noise import VariancePreserving
from diffdistill.registry import MODELS
from diffdistill.step import Step


def step(dtype=torch.float32, features=None):
    """Prediction 1, 2, 3, 4; target 1, 1, 1, 1; teacher 1, 2, 3, 0."""
    prediction, target, teacher = (
        torch.tensor(values, dtype=dtype).reshape(1, 1, 2, 2) for values in ([1, 2, 3, 4], [1, 1, 1, 1], [1, 2, 3, 0])
    )
    schedule = VariancePreserving(torch.linspace(0.99, 0.01, 10))
    noisy, timesteps = torch.zeros(1, 1, 2, 2), torch.tensor([7])
    return Step(
        noisy, timesteps, prediction, target, schedule, teacher_prediction=teacher, features=features or {}
    )  # fmt: skip


def pair(student, teacher, dtype=torch.float32):
    return torch.tensor(student, dtype=dtype), torch.tensor(teacher, dtype=dtype)


FEATURES = {"a <- a": pair([1.0, 3.0], [1.0, 1.0]), "b <- c": pair([[2.0, 2.0, 2.0, 2.0]], [[2.0, 2.0, 2.0, 6.0]])}


def test_task_loss_is_the_mean_squared_distance_to_the_target():
    assert TaskLoss()(step()) == (0 + 1 + 4 + 9) / 4


def test_output_loss_is_the_mean_squared_distance_to_the_teacher():
    assert OutputKD()(step()) == 16 / 4


def test_feature_loss_is_the_plain_sum_over_pairs():
    """Not `loss += loss + term`, which weighs the first of 26 pairs by 2^25."""
    assert FeatureKD()(step(features=FEATURES)) == 4 / 2 + 16 / 4
    three = FEATURES | {"d <- d": pair([1.0], [0.0])}
    assert FeatureKD()(step(features=three)) == 4 / 2 + 16 / 4 + 1


def test_normalized_features_count_in_units_of_the_teachers_mean_square():
    """The teacher's mean squares are 1 and 12, so the terms are 2 / 1 and 4 / 12; a common scale cancels."""
    value = FeatureKD(normalize=True)(step(features=FEATURES))
    torch.testing.assert_close(value, torch.tensor(2 + 4 / 12))
    scaled = {name: (100 * student, 100 * teacher) for name, (student, teacher) in FEATURES.items()}
    torch.testing.assert_close(FeatureKD(normalize=True)(step(features=scaled)), value)


@pytest.mark.parametrize(("kind", "value"), [("TaskLoss", 3.5), ("OutputKD", 4), ("FeatureKD", 6)])
def test_a_weight_multiplies_the_term(kind, value):
    assert MODELS.build(dict(type=kind, weight=0.5))(step(features=FEATURES)) == 0.5 * value


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [TaskLoss(), OutputKD(), FeatureKD(), FeatureKD(normalize=True)])
def test_a_difference_of_300_in_half_precision_is_finite(loss, dtype):
    """Its square, 90,000, is beyond fp16's 65,504."""
    far = step(dtype, {"a <- a": pair([301.0, 301.0], [1.0, 1.0], dtype)})
    far.prediction = far.prediction + 300
    value = loss(far)
    assert value.dtype == torch.float32
    assert value.shape == ()
    expected = {TaskLoss: sum(x * x for x in (300, 301, 302, 303)) / 4, OutputKD: (3 * 300**2 + 304**2) / 4}
    rounding = 0 if dtype == torch.float16 else 0.01  # bf16 keeps 301 as 302
    torch.testing.assert_close(value.item(), float(expected.get(type(loss), 300**2)), rtol=rounding, atol=0)


def test_gradients_of_half_precision_features_are_exact():
    """d/dx (x - t)^2 / 2 of two elements, at a difference of 300."""
    student = torch.tensor([301.0, 1.0], dtype=torch.float16, requires_grad=True)
    FeatureKD()(step(features={"a <- a": (student, torch.ones(2, dtype=torch.float16))})).backward()
    assert student.grad.tolist() == [300, 0]


def test_losses_say_what_must_be_computed_for_them():
    needs = {loss: (loss.needs_teacher, loss.needs_features) for loss in (TaskLoss, OutputKD, FeatureKD)}
    assert needs == {TaskLoss: (False, False), OutputKD: (True, False), FeatureKD: (True, True)}
