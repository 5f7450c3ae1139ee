"""Mixed precision: what a step computes in, and what the gradient scaler of fp16 changes."""

import pytest
import torch
from torch import nn

from diffdistill.engine import MixedPrecision
from diffdistill.models.distiller import Distiller

OVERFLOWING = 1e36  # a gradient that fp32 can hold, but not 65,536 times


@pytest.fixture(params=["float32", "bfloat16", "float16"])
def dtype(request):
    return getattr(torch, request.param)


class Line(nn.Module):
    """w . (3, 4) x, whose gradient has norm 5 at x = 1."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.weight = dtype, nn.Parameter(torch.zeros(2))

    def forward(self, x=1.0):
        return (self.weight * torch.tensor([3.0, 4.0])).sum() * x


def optimizer(model, **options):
    return MixedPrecision(torch.optim.SGD(model.parameters(), lr=1.0), **options)


def update(model, wrapper, x=1.0):
    with wrapper.optim_context(model):
        loss = model(x)
    wrapper.update_params(loss)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_step_trains_in_every_precision_on_the_cpu(tiny_sd, name):
    torch.manual_seed(0)
    distiller = Distiller(
        teacher=dict(type="StableDiffusion", checkpoint=str(tiny_sd)),
        student=dict(keep={"mid_block.*": []}),
        losses=dict(task=dict(type="TaskLoss"), output=dict(type="OutputKD"), feature=dict(type="FeatureKD")),
        feature_pairs=dict(level="blocks", rule="same"),
        gradient_checkpointing=True,
        dtype=name,
    ).train()
    before = {name: parameter.clone() for name, parameter in distiller.named_parameters()}
    wrapper = MixedPrecision(torch.optim.SGD(distiller.parameters(), lr=1e-3), clip_grad=dict(max_norm=1.0))
    batch = dict(pixel_values=torch.rand(2, 3, 32, 32) * 2 - 1, caption=["a dog", ""])
    for _ in range(2):
        logged = distiller.train_step(batch, wrapper)
        assert all(value.dtype == torch.float32 and value.isfinite() for value in logged.values())
    assert logged.keys() == {"loss", "loss_task", "loss_output", "loss_feature"}
    assert (wrapper.scaler is not None) == (name == "float16")
    after = dict(distiller.named_parameters())
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in after.values())
    assert any(not parameter.equal(before[name]) for name, parameter in after.items())


def test_the_update_is_the_same_in_every_precision(dtype):
    """Scaled up by 65,536 for fp16, the gradients are scaled back before the step."""
    model = Line(dtype)
    update(model, optimizer(model))
    assert model.weight.tolist() == [-3, -4]


def test_gradients_are_clipped_by_their_true_norm(dtype):
    model = Line(dtype)
    update(model, optimizer(model, clip_grad=dict(max_norm=1.0)))
    torch.testing.assert_close(model.weight.detach(), torch.tensor([-0.6, -0.8]), rtol=1e-5, atol=0)


def test_accumulated_gradients_are_averaged(dtype):
    model = Line(dtype)
    wrapper = optimizer(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    update(model, wrapper, x=1.0)
    assert model.weight.tolist() == [0, 0]
    update(model, wrapper, x=3.0)
    assert model.weight.tolist() == [-6, -8]


def test_a_small_gradient_survives_fp16():
    """1e-8 is nothing in fp16; scaled by 65,536 it is 6.6e-4."""
    model = Line(torch.float16)
    wrapper = optimizer(model)
    with wrapper.optim_context(model):
        loss = (model.weight.half() * 1.0).float().sum() * 1e-8
    wrapper.update_params(loss)
    torch.testing.assert_close(model.weight.detach(), torch.full((2,), -1e-8), rtol=1e-2, atol=0)


def test_a_gradient_that_overflows_skips_the_step_and_halves_the_scale():
    model = Line(torch.float16)
    wrapper = optimizer(model, clip_grad=dict(max_norm=1.0))
    update(model, wrapper, x=OVERFLOWING)
    assert model.weight.tolist() == [0, 0]
    assert not wrapper.fault  # a smaller scale mends it
    assert wrapper.scaler.get_scale() == 2**15
    update(model, wrapper)
    assert model.weight.abs().sum() > 0


def test_the_scale_is_restored_at_resume():
    model = Line(torch.float16)
    wrapper = optimizer(model)
    update(model, wrapper, x=OVERFLOWING)
    saved = wrapper.state_dict()
    resumed = optimizer(model)
    resumed.load_state_dict(saved)
    update(model, resumed)
    assert resumed.scaler.get_scale() == 2**15


def test_without_fp16_there_is_no_scale_to_save():
    model = Line(torch.bfloat16)
    wrapper = optimizer(model)
    update(model, wrapper)
    assert "loss_scaler" not in wrapper.state_dict()


@pytest.mark.parametrize("x", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_leaves_its_update_out(dtype, x):
    model = Line(dtype)
    wrapper = optimizer(model)
    update(model, wrapper, x)
    assert wrapper.fault == "loss"
    assert model.weight.tolist() == [0, 0]
    update(model, wrapper)
    assert not wrapper.fault
    assert model.weight.tolist() == [-3, -4]


@pytest.mark.parametrize("bad", [0, 1])
def test_an_update_is_left_out_with_all_that_was_accumulated_for_it(dtype, bad):
    model = Line(dtype)
    wrapper = optimizer(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    for index in range(2):
        update(model, wrapper, x=float("nan") if index == bad else 1.0)
    assert wrapper.fault == "loss"
    assert model.weight.tolist() == [0, 0]
    for _ in range(2):
        update(model, wrapper)
    assert not wrapper.fault
    assert model.weight.tolist() == [-3, -4]


@pytest.mark.parametrize("clip_grad", [None, dict(max_norm=1.0), dict(type="value", clip_value=1.0)])
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_gradient_that_is_not_finite_leaves_its_update_out(name, clip_grad):
    model = Line(getattr(torch, name))
    wrapper = optimizer(model, clip_grad=clip_grad and dict(clip_grad))  # MMEngine takes the type out of it
    with wrapper.optim_context(model):
        loss = (model.weight.sqrt() * 0).sum()  # 0, and its gradient is NaN
    wrapper.update_params(loss)
    assert wrapper.fault == "gradient norm"
    assert model.weight.tolist() == [0, 0]
    update(model, wrapper)
    assert model.weight.abs().sum() > 0


def test_a_gradient_that_no_scale_mends_is_a_fault():
    model = Line(torch.float16)
    wrapper = optimizer(model)
    faults = []
    for _ in range(18):
        with wrapper.optim_context(model):
            loss = (model.weight.sqrt() * 0).sum()  # 0, and its gradient is NaN
        wrapper.update_params(loss)
        faults.append(wrapper.fault)
    assert faults == [""] * 16 + ["gradient norm"] * 2
    assert model.weight.tolist() == [0, 0]
