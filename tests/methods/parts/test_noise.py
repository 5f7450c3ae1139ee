"""Noise and timesteps: what each option draws, and that without options nothing is drawn differently."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from diffdistill.errors import InputError
from diffdistill.methods.denoising import DenoisingKD
from diffdistill.methods.parts.noise import Noising, OffsetNoise, PyramidNoise
from diffdistill.methods.parts.timesteps import (
    BiasedTimesteps,
    CosMapTimesteps,
    CubicTimesteps,
    GridTimesteps,
    LogitNormalTimesteps,
    ModeTimesteps,
    UniformTimesteps,
)
from diffdistill.noise import FlowMatching, VariancePreserving

LENGTH = 1000
SCHEDULE = VariancePreserving(torch.linspace(0.999, 0.005, LENGTH))
LATENTS = torch.randn(4, 4, 16, 24, generator=torch.Generator().manual_seed(1))
COUNT = 200_000


class Bare:
    """As much of a distiller as a method needs; gives back what the denoisers would see."""

    noise_schedule = SCHEDULE

    def take_compared_step(self, noisy, timesteps, condition, target):
        return noisy, timesteps, target


def drawn(function, *args, seed=0):
    torch.manual_seed(seed)
    return function(*args)


def timesteps_of(part, count=COUNT):
    return drawn(part, SCHEDULE, torch.zeros(count, 1, 1, 1))


def test_without_options_a_step_draws_what_it_always_has():
    """White noise by `randn_like`, then timesteps by `randint`, and nothing after them."""
    torch.manual_seed(3)
    noise = torch.randn_like(LATENTS)
    timesteps = torch.randint(LENGTH, (4,))
    state = torch.get_rng_state()
    noisy, theirs, target = drawn(DenoisingKD(), Bare(), LATENTS, {}, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(theirs, timesteps)
    assert torch.equal(target, noise)
    assert torch.equal(noisy, SCHEDULE.add_noise(LATENTS, noise, timesteps))


@pytest.mark.parametrize(
    "options",
    [
        dict(noise=dict(type="OffsetNoise", offset=0.3)),
        dict(noise=dict(type="PyramidNoise", discount=0.5)),
        dict(timesteps=dict(type="CubicTimesteps")),
        dict(timesteps=dict(type="BiasedTimesteps", multiplier=50.0)),
        dict(timesteps=dict(type="UniformTimesteps", start=100, end=200)),
        dict(input_perturbation=0.1),
    ],
    ids=str,
)
def test_options_of_the_method_change_its_step_and_follow_the_seed(options):
    plain, changed, again = (drawn(DenoisingKD(**each), Bare(), LATENTS, {}) for each in ({}, options, options))
    assert all(torch.equal(*pair) for pair in zip(changed, again, strict=True))
    assert not torch.equal(changed[0], plain[0])
    assert torch.equal(changed[2], plain[2]) == ("noise" not in options)
    assert torch.equal(changed[1], plain[1]) == ("input_perturbation" in options)


def test_offset_noise_moves_whole_channels():
    torch.manual_seed(0)
    expected = torch.randn_like(LATENTS) + 0.3 * torch.randn(4, 4, 1, 1)
    assert torch.equal(drawn(OffsetNoise(0.3), LATENTS), expected)
    means = drawn(OffsetNoise(0.3), torch.zeros(500, 4, 8, 8)).mean((2, 3))
    assert means.var().item() == pytest.approx(0.3**2 + 1 / 64, rel=0.1)


def test_pyramid_noise_is_a_sum_of_ever_coarser_levels():
    """Written out for three levels: each shrinks the one before it, by a random ratio of 2 to 4 to its own power."""
    torch.manual_seed(0)
    expected = torch.randn_like(LATENTS)
    height, width = 16, 24
    for level in range(3):
        ratio = (2 + 2 * torch.rand(()).item()) ** level
        height, width = max(1, int(height / ratio)), max(1, int(width / ratio))
        expected += 0.7**level * F.interpolate(torch.randn(4, 4, height, width), size=(16, 24), mode="bilinear")
    noise = drawn(PyramidNoise(discount=0.7, levels=3), LATENTS)
    torch.testing.assert_close(noise, expected / expected.std())


def test_pyramid_noise_moves_channels_as_much_as_whitakers():
    """Variance of the means of channels of 64 x 64 latents, over many ratios: 0.198 by his code; 0.154 of sizes 1 / r^i."""
    torch.manual_seed(0)
    variances = [PyramidNoise()(torch.zeros(16, 4, 64, 64)).mean((2, 3)).var().item() for _ in range(300)]
    assert sum(variances) / len(variances) == pytest.approx(0.198, rel=0.05)


@pytest.mark.parametrize("shape", [(4, 4, 16, 24), (2, 4, 1, 1), (2, 4, 2, 128)])
def test_pyramid_noise_has_unit_deviation_and_long_waves(shape):
    noise = drawn(PyramidNoise(), torch.zeros(shape))
    assert noise.shape == shape
    assert noise.std().item() == pytest.approx(1.0, abs=1e-5)
    if min(shape[2:]) > 2:
        means = noise.mean((2, 3)).var().item()
        assert means > 10 / math.prod(shape[2:])  # of white noise it is 1 / (H W)


def test_perturbed_inputs_have_the_unperturbed_target():
    """Ning et al., alg. 1: sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) (eps + gamma xi), with eps as the target."""
    torch.manual_seed(5)
    noise, timesteps = torch.randn_like(LATENTS), torch.randint(LENGTH, (4,))
    extra = torch.randn_like(LATENTS)
    noised = drawn(Noising(input_perturbation=0.1), SCHEDULE, LATENTS, seed=5)
    assert torch.equal(noised.noise, noise)
    assert torch.equal(noised.timesteps, timesteps)
    alpha, sigma = SCHEDULE.coefficients(timesteps, LATENTS)
    torch.testing.assert_close(noised.noisy, alpha * LATENTS + sigma * (noise + 0.1 * extra))


def test_a_range_of_timesteps():
    found = timesteps_of(UniformTimesteps(100, 110)).unique()
    assert found.tolist() == list(range(100, 110))
    assert timesteps_of(UniformTimesteps(start=990)).unique().tolist() == list(range(990, 1000))


@pytest.mark.parametrize(
    ("options", "span"),
    [
        (dict(favour="later"), (750, 1000)),
        (dict(favour="earlier", portion=0.1), (0, 100)),
        (dict(favour=[200, 500]), (200, 500)),
        (dict(favour=(200, 500), multiplier=0.5), (200, 500)),
    ],
)
def test_favoured_timesteps_come_more_often(options, span):
    part = BiasedTimesteps(**options)
    drawn_ = timesteps_of(part)
    inside = ((drawn_ >= span[0]) & (drawn_ < span[1])).double().mean().item()
    favoured = (span[1] - span[0]) * options.get("multiplier", 2.0)
    expected = favoured / (favoured + LENGTH - (span[1] - span[0]))
    assert inside == pytest.approx(expected, abs=5 * math.sqrt(expected / COUNT))
    assert set(drawn_.unique().tolist()) == set(range(LENGTH))


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (SCHEDULE, 2, [499, 999]),
        (SCHEDULE, 1, [999]),
        (SCHEDULE, [999, 759, 499, 259], [259, 499, 759, 999]),
        (FlowMatching(3.0), 2, [750, 1000]),  # 1000 x 3 / 2 / (1 + 2 / 2)
        (FlowMatching(), [1000, 250], [250, 1000]),
    ],
)
def test_a_grid_has_its_timesteps_alone_and_all_alike(schedule, steps, expected):
    part = GridTimesteps(steps)
    part.check(schedule)
    found, counts = drawn(part, schedule, torch.zeros(4000, 1, 1, 1)).unique(return_counts=True)
    assert found.tolist() == expected
    assert len(part) == len(expected)
    assert (counts / 4000 - 1 / len(expected)).abs().max() < 0.05


def test_cubic_timesteps_come_most_from_the_noisy_end():
    """P(t < x T) = 1 - (1 - x)^(1/3)."""
    drawn_ = timesteps_of(CubicTimesteps())
    assert drawn_.min() >= 0
    assert drawn_.max() == LENGTH - 1
    for x in (0.25, 0.5, 0.9):
        expected = 1 - (1 - x) ** (1 / 3)
        assert (drawn_ < x * LENGTH).double().mean().item() == pytest.approx(expected, abs=5 / math.sqrt(COUNT))


PARTS = [
    UniformTimesteps(), BiasedTimesteps(), CubicTimesteps(), GridTimesteps(1), LogitNormalTimesteps(), ModeTimesteps(),
    CosMapTimesteps(),
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_timesteps_are_indices_of_the_schedule(part):
    timesteps = timesteps_of(part, 7)
    assert timesteps.dtype == torch.int64
    assert timesteps.shape == (7,)
    assert part(VariancePreserving(torch.ones(1) / 2), torch.zeros(5, 1, 1, 1)).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (OffsetNoise, dict(offset=0), "OffsetNoise: offset=0 must be a number above 0"),
        (PyramidNoise, dict(discount=1.5), "PyramidNoise: discount=1.5 must be a number above 0 and at most 1"),
        (PyramidNoise, dict(levels=0), "PyramidNoise: levels=0 must be an integer, at least 1"),
        (Noising, dict(input_perturbation=-0.1), "input_perturbation=-0.1 must be a number above 0"),
        (UniformTimesteps, dict(start=5, end=5), "start=5, end=5 must be integers with 0 <= start < end"),
        (UniformTimesteps, dict(start=-1), "start=-1, end=None must be integers"),
        (UniformTimesteps, dict(end=0.5), "start=0, end=0.5 must be integers"),
        (BiasedTimesteps, dict(favour="late"), "favour='late' is unknown; use 'later', 'earlier' or (start, end)"),
        (BiasedTimesteps, dict(favour=[1, 2, 3]), "favour=[1, 2, 3] is unknown"),
        (BiasedTimesteps, dict(favour=[5, 1]), "favour: start=5, end=1 must be integers"),
        (BiasedTimesteps, dict(favour=[1, 5], portion=0.5), "portion=0.5 has no meaning with favour=[1, 5]"),
        (BiasedTimesteps, dict(portion=0), "portion=0 must be a number above 0 and at most 1"),
        (BiasedTimesteps, dict(portion=1.1), "portion=1.1 must be a number above 0 and at most 1"),
        (BiasedTimesteps, dict(multiplier=0), "multiplier=0 must be a number above 0"),
        (GridTimesteps, dict(steps=0), "GridTimesteps: steps=0: give a whole number of 1 or more, or the timesteps"),
        (GridTimesteps, dict(steps=[]), "GridTimesteps: steps=[]: give a whole number of 1 or more"),
    ],
)
def test_bad_options_are_refused_at_once(kind, options, message):
    with pytest.raises(InputError) as caught:
        kind(**options)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "timesteps",
    [
        dict(type="UniformTimesteps", end=1001),
        dict(type="UniformTimesteps", start=1000),
        dict(type="BiasedTimesteps", favour=(900, 1001)),
    ],
)
def test_a_range_outside_the_schedule_is_refused(timesteps):
    method = DenoisingKD(timesteps=timesteps)
    for use in (lambda: method.check(SimpleNamespace(noise_schedule=SCHEDULE)), lambda: method(Bare(), LATENTS, {})):
        with pytest.raises(InputError, match="leaves the schedule, which has 1000 timesteps: 0 to 1000"):
            use()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (3, "GridTimesteps: steps=3 does not divide 1000 timesteps; use one of 1, 2, 4, 5"),
        ([1000, 500], "GridTimesteps: steps=[1000, 500]: 1000 is no timestep of the schedule; give some of 0 to 999"),
    ],
)
def test_a_grid_of_another_schedule_is_refused(steps, message):
    with pytest.raises(InputError) as caught:
        DenoisingKD(timesteps=dict(type="GridTimesteps", steps=steps)).check(SimpleNamespace(noise_schedule=SCHEDULE))
    assert message in str(caught.value)
