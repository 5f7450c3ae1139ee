"""Networks beside the student: what a fake score is, whose turn trains what, and that nothing else sees it."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.engine import MixedPrecision, PerNetwork
from diffdistill.errors import InputError
from diffdistill.models.adapters import adapter_parameters, adapters_off
from diffdistill.models.base import build_model
from diffdistill.step import Turn, at_sample

LORA = dict(type="LoraConfig", r=2, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
MATCHING = dict(type="DistributionMatching", guidance_scale=3.0)
CUT = {"mid_block.attentions": [], "mid_block.resnets": [0]}


def config(teacher, method=MATCHING, student=None, **changes):
    return dict(
        type="Distiller",
        teacher=dict(type="StableDiffusionXL", checkpoint=str(teacher)),
        student=student or {},
        method=method,
        losses=dict(task=dict(type="TaskLoss", weight=0.5)),
        **changes,
    )


def build(teacher, *args, **changes):
    torch.manual_seed(0)
    model = config(teacher, *args, **changes)
    return build_model(model, check_model(model)).train()


def batch(pictures=True):
    torch.manual_seed(1)
    found = dict(caption=["a red circle", "a dog"])
    if pictures:
        found |= dict(pixel_values=torch.rand(2, 3, 32, 32), time_ids=torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2))
    return found


def gradients(model):
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.fixture(scope="module")
def model(shallow_sdxl):
    return build(shallow_sdxl)


def test_a_full_fake_score_is_the_teacher_whatever_the_student_is(shallow_sdxl):
    model = build(shallow_sdxl, student=dict(keep=CUT), dtype="bfloat16")
    fake, teacher = model.critics["fake_score"], model.family.load_denoiser()
    for ours, theirs in zip(fake.parameters(), teacher.parameters(), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
    loss = model(**batch(), mode="loss")
    assert loss.keys() == {"loss_task", "loss_fake_score"}
    sum(loss.values()).backward()
    assert all(each.grad is not None for each in model.parameters())


def test_neither_loss_reaches_the_other_network(model):
    loss = model(**batch(), mode="loss")
    for name, part in (("loss_task", "trained"), ("loss_fake_score", "critics")):
        model.zero_grad()
        loss[name].backward()
        assert {name.split(".")[0] for name in gradients(model)} == {part}
    model.zero_grad()


def test_in_a_turn_of_the_critics_the_student_has_no_loss(model):
    model.turn = Turn(student=False)
    try:
        assert model(**batch(), mode="loss").keys() == {"loss_fake_score"}
    finally:
        model.turn = Turn()


def test_critics_are_saved_and_no_average_has_them(model, shallow_sdxl):
    state = model.state_dict()
    assert sum(name.startswith("critics.fake_score.") for name in state) == len(model.critics["fake_score"].state_dict())
    assert state.keys() == check_model(config(shallow_sdxl)).trained_state().keys()
    average = ExponentialMovingAverage(model, momentum=0.5)
    names = [name for name, _ in average.module.named_parameters()]
    assert names == [name for name, _ in model.named_parameters()][: len(names)]  # MMEngine's hook matches them by order
    assert {name.split(".")[0] for name in names} == {"trained"}
    assert len(copy.deepcopy(model.critics)) == 0


def test_without_pictures_a_step_is_the_same(model):
    """Latents count by their shape alone, and captions are those of whole pictures."""
    losses = []
    for pictures in (True, False):
        found = batch(pictures)
        torch.manual_seed(3)
        losses.append({name: float(loss) for name, loss in model(**found, mode="loss").items()})
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def three_roles(shallow_sdxl):
    return build(shallow_sdxl, MATCHING | dict(fake_score=LORA), dict(adapter=LORA))


def predict(model, who):
    """A prediction for the same input of the student, the teacher or the fake score."""
    torch.manual_seed(4)
    noisy, times = torch.randn(1, 4, 8, 8), torch.tensor([500])
    condition = model.condition_at(["a dog"], 32, 32)
    if who == "teacher":
        return model.predict_teacher(noisy, times, condition)[0]
    if who == "student":
        return model.predict_student(noisy, times, condition)
    return model.predict_critic("fake_score", noisy, times, condition).detach()


def test_one_base_has_three_roles(three_roles):
    model, roles = three_roles, ("student", "teacher", "fake_score")
    said = {who: predict(model, who) for who in roles}
    for who in reversed(roles):  # whoever was asked before
        assert torch.equal(predict(model, who), said[who])
    with adapters_off(model.student):
        assert torch.equal(predict(model, "student"), said["teacher"])
    for one, other in (("student", "teacher"), ("student", "fake_score"), ("teacher", "fake_score")):
        assert not torch.allclose(said[one], said[other], atol=1e-3)
    student, fake, all_ = (
        sum(each.numel() for each in part.parameters()) for part in (model.trained, model.critics, model.student)
    )
    base = sum(each.numel() for each in model.family.load_denoiser().parameters())
    assert model.teacher is model.student
    assert all_ == base + student + fake


def test_each_adapter_has_its_own_parameters(three_roles):
    for name, tree in (("default", three_roles.trained["unet"]), ("fake_score", three_roles.critics["fake_score"])):
        mine = adapter_parameters(three_roles.student, name)
        assert {id(each) for each in tree.parameters()} == {id(each) for each in mine.values()}


@pytest.mark.parametrize("recomputed", [True, ["up_blocks.*"]])
def test_recomputed_blocks_run_with_the_adapter_that_they_ran_with(shallow_sdxl, recomputed):
    def found(**changes):
        model = build(shallow_sdxl, MATCHING | dict(fake_score=LORA), dict(adapter=LORA), **changes)
        torch.manual_seed(5)
        sum(model(**batch(), mode="loss").values()).backward()
        assert all(each.requires_grad for each in model.parameters())
        return gradients(model)

    plain, saved = found(), found(gradient_checkpointing=recomputed)
    assert plain.keys() == saved.keys()
    assert {name.split(".")[0] for name in plain} == {"trained", "critics"}
    for name, gradient in plain.items():
        torch.testing.assert_close(saved[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def wrap(model, networks=None, **wrapper):
    optimizer = dict(type="AdamW", lr=1e-3)
    return PerNetwork(dict(type="MixedPrecision", optimizer=optimizer, **wrapper), paramwise_cfg=networks)(model)


def test_each_network_has_its_own_settings_and_its_own_clipping(model):
    networks = dict(fake_score=dict(lr=5e-3, betas=(0.0, 0.95), max_norm=2.0))
    wrapper = wrap(model, networks, clip_grad=dict(max_norm=1.0))
    student, fake = wrapper.optimizer.param_groups
    assert (student["network"], student["lr"], student["betas"]) == ("student", 1e-3, (0.9, 0.999))
    assert (fake["network"], fake["lr"], fake["betas"]) == ("fake_score", 5e-3, (0.0, 0.95))
    for group in (student, fake):
        for each in group["params"]:
            each.grad = torch.full_like(each, 1e3)
    wrapper.step()
    for group, most in ((student, 1.0), (fake, 2.0)):
        norm = torch.stack([each.grad.norm() for each in group["params"]]).norm()
        torch.testing.assert_close(norm, torch.tensor(most), rtol=1e-3, atol=0)
    model.zero_grad()


class Pair(nn.Module):
    """A student and a critic of one weight each."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.trained, self.critics = nn.Linear(1, 1, bias=False), nn.ModuleDict(dict(judge=nn.Linear(1, 1, bias=False)))
        self.turns = []

    def begin(self, iteration, update):
        self.turns.append((iteration, update))


def test_the_network_that_fails_is_named_and_turns_go_on():
    pair = Pair()
    wrapper, judge = wrap(pair, accumulative_counts=2), pair.critics["judge"].weight
    wrapper.initialize_count_status(pair, 0, 6)
    faults = []
    for factor in (1.0, 1.0, float("inf"), 1.0, 1.0, 1.0):
        with wrapper.optim_context(pair):
            loss = pair.trained.weight.sum() + judge.sum()
        hook = judge.register_hook(lambda gradient, factor=factor: gradient * factor)
        wrapper.update_params(loss)
        hook.remove()
        faults.append(wrapper.fault)
    assert faults[1::2] == ["", "gradient norm of judge", ""]
    assert pair.turns == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]


def test_models_that_know_no_turns_are_trained_as_before():
    plain = nn.Linear(1, 1)
    plain.dtype = torch.float32
    wrapper = MixedPrecision(torch.optim.SGD(plain.parameters(), lr=1.0))
    with wrapper.optim_context(plain):
        loss = plain(torch.ones(1, 1)).sum()
    before = plain.bias.clone()
    wrapper.update_params(loss)
    torch.testing.assert_close(plain.bias, before - 1)


def test_a_gradient_at_the_sample_reaches_no_network_that_judges():
    judge, sample = nn.Linear(3, 1), torch.randn(2, 3, requires_grad=True)
    found, expected = at_sample(sample, lambda x: judge(x).square().mean()), judge(sample).square().mean()
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad(each, sample, retain_graph=True) for each in (found, expected))
    torch.testing.assert_close(ours, theirs)
    found.backward()
    assert judge.weight.grad is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(method=MATCHING | dict(fake_score=LORA), student=dict(keep=CUT, adapter=LORA)), ["is a cut", "full copy"]),
        (dict(method=MATCHING | dict(fake_score=LORA)), ["trained whole, without model.student.adapter", "full copy"]),
        (dict(method=MATCHING | dict(steps=7)), ["model.method.steps=7 does not divide 1000"]),
        (dict(sampling=dict(guidance_scale=1.0)), ["folded it in", "leave model.method.guidance_scale out"]),
        (dict(method=MATCHING | dict(guidance_scale=[2.0, 4.0])), ["guidance_embedding"]),
        (
            dict(method=MATCHING | dict(fake_score=LORA | dict(target_modules=["nowhere"])), student=dict(adapter=LORA)),
            ["model.method.fake_score", "'nowhere' matches no module"],
        ),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_loaded(shallow_sdxl, changes, words):
    with pytest.raises(InputError) as refused:
        check_model(config(shallow_sdxl, **changes))
    assert all(word in str(refused.value) for word in words), refused.value


def test_names_of_critics_are_their_own(shallow_sdxl):
    model = config(shallow_sdxl) | dict(losses=dict(fake_score=dict(type="TaskLoss")))
    with pytest.raises(InputError, match="'fake_score', as a loss has"):
        check_model(model)


def test_settings_of_networks_that_are_not_there_are_refused(model):
    for networks, words in (
        (dict(heads=dict(lr=1.0)), "paramwise_cfg.heads: this run trains no such network; it trains student, fake_score"),
        (dict(fake_score=dict(max_norm=0)), "fake_score.max_norm=0: give a number above 0"),
    ):
        with pytest.raises(InputError, match=words):
            wrap(model, networks)
