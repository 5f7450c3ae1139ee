"""An optimizer's step for each parameter in backward: the same weights, and no gradient left."""

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from diffdistill.engine import MixedPrecision, OptimizerInBackward
from diffdistill.errors import InputError

OPTIMIZERS = {
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-2),
    "AdamW-fused": lambda groups: torch.optim.AdamW(groups, lr=1e-2, fused=True),
    "SGD": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "Adafactor": lambda groups: Adafactor(groups, lr=1e-2, scale_parameter=False, relative_step=False),
    "AdamW8bit": lambda groups: pytest.importorskip("bitsandbytes").optim.AdamW8bit(groups, lr=1e-2),
}


class Twice(nn.Module):
    """A network that uses one layer twice: its gradient is whole only when both have been backpropagated."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.shared, self.last = nn.Linear(8, 80), nn.Linear(80, 80), nn.Linear(80, 1)

    def forward(self, x):
        return self.last(self.shared(self.shared(self.first(x)).tanh()).tanh()).square().mean()


def groups(model):
    """Two groups, the second with a learning rate of its own."""
    return [
        dict(params=model.first.parameters()),
        dict(params=[*model.shared.parameters(), *model.last.parameters()], lr=3e-2),
    ]


def train(model, wrapper, steps, first=0):
    for step in range(first, steps):
        torch.manual_seed(step)
        wrapper.update_params(model(torch.randn(4, 8)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_those_of_one_step_for_all_also_after_a_resume(name):
    plain, ours = Twice(), Twice()
    train(plain, MixedPrecision(OPTIMIZERS[name](groups(plain))), 6)
    wrapper = OptimizerInBackward(OPTIMIZERS[name](groups(ours)))
    train(ours, wrapper, 3)
    resumed = Twice()
    resumed.load_state_dict(ours.state_dict())
    again = OptimizerInBackward(OPTIMIZERS[name](groups(resumed)))
    again.load_state_dict(wrapper.state_dict())
    train(resumed, again, 6, first=3)
    for expected, found in zip(plain.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, found)
    assert [group["lr"] for group in again.optimizer.param_groups] == [1e-2, 3e-2]


def test_few_gradients_are_there_at_a_time():
    """The most bytes of gradients at once: those of the layer that is updated, and not of all."""
    model = Twice()
    wrapper = OptimizerInBackward(torch.optim.AdamW(model.parameters()))
    present = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: present.append(sum(each.numel() for each in model.parameters() if each.grad is not None))
        )
    train(model, wrapper, 1)
    assert len(present) == 6
    assert max(present) <= model.shared.weight.numel() + model.shared.bias.numel()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_not_finite_never_reaches_a_weight():
    model = Twice()
    before = [parameter.clone() for parameter in model.parameters()]
    wrapper = OptimizerInBackward(torch.optim.SGD(model.parameters(), lr=1.0))
    model.first.weight.register_hook(lambda gradient: gradient * float("inf"))
    train(model, wrapper, 1)
    assert wrapper.fault == "gradient norm"
    after = list(model.parameters())
    assert all(parameter.isfinite().all() and parameter.grad is None for parameter in after)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[-2], before[-2]), "its gradient came before"
    train(model, wrapper, 1)
    assert wrapper.fault == "gradient norm", "and so at every step"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(accumulative_counts=4), r"^optim_wrapper\.accumulative_counts=4: .* set it to 1, or [^\n]*$"),
        (dict(clip_grad=dict(max_norm=1.0)), r"^optim_wrapper\.clip_grad=\{'max_norm': 1.0\}: .*clip_grad=None, or [^\n]*$"),
    ],
)
def test_what_needs_all_gradients_is_refused(options, message):
    model = Twice()
    with pytest.raises(InputError, match=message):
        OptimizerInBackward(torch.optim.SGD(model.parameters(), lr=1.0), **options)


def test_an_optimizer_with_a_state_that_all_share_is_refused():
    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            self.param_groups[0]["k"] = self.param_groups[0].get("k", 0) + 1
            super().step(closure)

    model = Twice()
    optimizer = Counting(model.parameters(), lr=1.0)
    optimizer.param_groups[0]["k"] = 0
    with pytest.raises(InputError, match=r"^optim_wrapper\.optimizer\.type=Counting keeps [^\n]*$"):
        train(model, OptimizerInBackward(optimizer), 1)
