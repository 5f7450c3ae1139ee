"""The adversarial loss: what the student, its discriminator and the networks between them learn, for every family."""

import importlib.util

import kinds
import pytest
import tiny
import torch
import torch.nn.functional as F

from diffdistill.errors import InputError
from diffdistill.losses.adversarial import AdversarialLoss, mean_of, steepness
from diffdistill.losses.heads import Discriminator
from diffdistill.methods.base import Turn
from diffdistill.models.distiller import Distiller
from diffdistill.models.student import StudentPlan
from diffdistill.step import at_sample

LORA = dict(type="LoraConfig", r=4, lora_alpha=4, target_modules=["to_q", "to_v"])
MATCHING = dict(type="DistributionMatching", steps=1)
GRID = dict(type="DenoisingKD", timesteps=dict(type="GridTimesteps", steps=2))


def adversarial(**options):
    return dict(adversarial=dict(type="AdversarialLoss", **options))


def build(folder, family="StableDiffusion", method=GRID, losses=None, **options):
    """A distiller whose student is the whole teacher, or a cut, with the adversarial loss."""
    teacher = dict(type=family, checkpoint=str(folder))
    return Distiller(teacher=teacher, method=method, losses=losses or adversarial(), **options)


@pytest.fixture
def batch():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return dict(pixel_values=pictures, caption=["a red circle", "a dog"])


BOTH, CRITICS = Turn(), Turn(student=False)


def score(model, batch, seed=0, turn=BOTH):
    """The terms of one step, after which the spectral norms are as they were."""
    torch.manual_seed(seed)
    model.turn, before = turn, [(each, each.clone()) for each in model.critics.buffers()]
    terms = model(**batch, mode="loss")
    for buffer, value in before:
        buffer.copy_(value)
    return terms


def gradients(model, batch, **options):
    """Those of all that is trained, after one backward of the sum of the losses, by name."""
    terms = score(model, batch, **options)
    model.zero_grad()
    sum(term for name, term in terms.items() if name.startswith("loss")).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def of(part, found):
    return {name: each.clone() for name, each in found.items() if name.startswith(part)}


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


# The formulas


@pytest.mark.parametrize(
    ("kind", "real", "fake", "student"),
    [
        ("hinge", lambda d: max(0, 1 - d), lambda d: max(0, 1 + d), lambda d: -d),
        ("softplus", lambda d: (1 + (-d).exp()).log(), lambda d: (1 + d.exp()).log(), lambda d: (1 + (-d).exp()).log()),
    ],
)
def test_costs_by_hand(kind, real, fake, student):
    loss = AdversarialLoss(kind=kind)
    for logit in torch.tensor([-2.5, -1.0, -0.3, 0.0, 0.7, 1.0, 3.0], dtype=torch.float64):
        assert loss.costs(logit).item() == pytest.approx(float(real(logit)), abs=1e-12)
        assert loss.costs(-logit).item() == pytest.approx(float(fake(logit)), abs=1e-12)
        assert loss.cost_of_student(logit).item() == pytest.approx(float(student(logit)), abs=1e-12)


def test_every_head_counts_alike():
    logits = [torch.ones(2, 1, 100), torch.zeros(2, 1)]
    assert mean_of(torch.square, logits).item() == 0.5


def test_the_exact_penalty_is_autograds_on_a_linear_head():
    """Of the mean over N tokens of w . f the gradient is w / N at each."""
    heads = Discriminator({"layer": (1, 5, 3)}, lambda shape: torch.nn.Conv1d(3, 1, 1))
    weight = heads.heads[0].weight
    penalty = steepness(heads, {"layer": torch.randn(4, 5, 3)})
    torch.testing.assert_close(penalty, weight.square().sum() / 5)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach() / 5)


def test_a_gradient_at_the_sample_is_that_of_the_whole_chain():
    weight, inner = torch.randn(6, dtype=torch.float64, requires_grad=True), torch.randn(6, dtype=torch.float64)
    sample = weight * inner
    value = at_sample(sample, lambda x: F.softplus(-x).mean())
    (found,) = torch.autograd.grad(value, weight)
    (expected,) = torch.autograd.grad(F.softplus(-weight * inner).mean(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert value.item() == pytest.approx(F.softplus(-weight * inner).mean().item())


# Who learns what


@pytest.fixture(scope="module")
def plain(tiny_sd):
    return build(tiny_sd)


def test_student_and_discriminator_learn_each_its_own(plain, batch, tiny_sd):
    found = gradients(plain, batch)
    student, heads = of("trained.", found), of("critics.discriminator.", found)
    assert student.keys() | heads.keys() == found.keys()
    assert heads.keys() == {name for name, _ in plain.named_parameters() if name.startswith("critics.")}
    assert sum(each.abs().sum() for each in student.values()) > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in plain.teacher.parameters())

    plain.losses["adversarial"].weight = 3.0
    heavier = gradients(plain, batch)
    plain.losses["adversarial"].weight = 1.0
    torch.testing.assert_close(of("trained.", heavier), {name: 3 * each for name, each in student.items()})
    torch.testing.assert_close(of("critics.", heavier), heads)  # nothing of the student's term


def test_the_critics_weight_is_theirs_alone(plain, batch):
    found = gradients(plain, batch)
    plain.losses["adversarial"].critic_weight = 0.5
    halved = gradients(plain, batch)
    plain.losses["adversarial"].critic_weight = 1.0
    torch.testing.assert_close(of("trained.", halved), of("trained.", found))
    torch.testing.assert_close(of("critics.", halved), {k: each / 2 for k, each in of("critics.", found).items()})


def test_the_students_gradient_is_that_of_its_pictures_through_the_teacher(plain, batch):
    """Told by differentiating the whole chain at once."""
    found = of("trained.", gradients(plain, batch))
    loss, discriminator = plain.losses["adversarial"], plain.critics["discriminator"]
    torch.manual_seed(0)
    latents, condition = plain.encode(batch)
    step = plain.method(plain, latents, condition)
    sample = step.schedule.to_sample(step.prediction, step.noisy, step.timesteps)
    timesteps, _ = loss.renoise(
        plain.teacher_schedule, sample
    )  # of the data, and then of the student, for the discriminator
    loss.renoise(plain.teacher_schedule, sample, timesteps)
    timesteps, noisy = loss.renoise(plain.teacher_schedule, sample)
    discriminator.eval()  # in training spectral norms take a step in every pass
    with plain.tapped("teacher", discriminator.layers, condition) as look:
        value = mean_of(torch.neg, discriminator(look(noisy, timesteps)))
    discriminator.train()
    names = list(found)
    whole = torch.autograd.grad(value, [plain.get_parameter(name) for name in names])
    expected, difference = (
        torch.stack([each.norm() for each in group]).norm()
        for group in (whole, [ours - found[name] for name, ours in zip(names, whole, strict=True)])
    )
    assert expected > 0
    assert difference < 0.02 * expected


def test_a_turn_of_the_critics_leaves_the_student_alone(plain, batch):
    terms = score(plain, batch, turn=CRITICS)
    assert terms.keys() == {"loss_discriminator", "discriminator_real", "discriminator_fake"}
    found = gradients(plain, batch, turn=CRITICS)
    assert found
    assert all(name.startswith("critics.discriminator.") for name in found)


def test_logits_are_logged_beside_the_losses(plain, batch):
    terms = score(plain, batch)
    assert terms.keys() == {"loss_adversarial", "loss_discriminator", "discriminator_real", "discriminator_fake"}
    loss, logged = plain.parse_losses(terms)
    torch.testing.assert_close(loss, terms["loss_adversarial"] + terms["loss_discriminator"])
    assert {"discriminator_real", "discriminator_fake"} < logged.keys()
    assert not any(terms[name].requires_grad for name in ("discriminator_real", "discriminator_fake"))


def test_a_few_updates_tell_student_and_data_apart(tiny_sd, batch):
    model = build(tiny_sd, losses=adversarial(layers=["mid_block"]))
    optimizer = torch.optim.Adam(model.critics.parameters(), lr=1e-2)
    for seed in range(15):
        optimizer.zero_grad()
        terms = score(model, batch, seed, CRITICS)
        terms["loss_discriminator"].backward()
        optimizer.step()
    assert terms["discriminator_real"] > terms["discriminator_fake"] + 0.5
    assert terms["loss_discriminator"] < 1.5  # of 2, where it knows nothing


def test_heads_on_the_fake_score_train_it_too(tiny_sd, batch):
    losses = adversarial(network="fake_score", kind="softplus", critic_weight=2.0) | dict(task=dict(type="TaskLoss"))
    model = build(tiny_sd, method=MATCHING, losses=losses)
    terms = score(model, batch)
    loss = model.losses["adversarial"]
    fake = list(model.critics["fake_score"].mid_block.parameters())
    both = torch.autograd.grad(terms["loss_discriminator"], fake, retain_graph=True)
    assert sum(each.abs().sum() for each in both) > 0
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(terms["loss_discriminator"], model.student.conv_in.weight, retain_graph=True)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(terms["loss_adversarial"], fake, retain_graph=True)
    (student,) = torch.autograd.grad(terms["loss_adversarial"], model.student.conv_in.weight)
    assert student.abs().sum() > 0
    assert loss.runs == ["fake_score"]


# One base


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_teacher_is_the_base_without_its_adapter(shallow_sdxl, batch, recomputed):
    """The gradient through a base that is recomputed in backward is that of the base without the adapter, too."""
    batch = dict(batch, time_ids=torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2))
    found = []
    for student in (dict(adapter=LORA), dict(adapter=LORA, keep={})):
        torch.manual_seed(0)
        options = dict(student=student, gradient_checkpointing=recomputed and student is not None)
        model = build(shallow_sdxl, "StableDiffusionXL", **options)
        assert model.teacher is model.student
        torch.manual_seed(1)
        for parameter in model.trained.parameters():  # an adapter that does something
            torch.nn.init.normal_(parameter, std=0.3)
        found.append(gradients(model, batch))
        recomputed = False
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    assert any(name.startswith("trained.") and each.abs().sum() > 0 for name, each in found[0].items())


def test_a_teacher_that_is_recomputed_gives_the_same_gradients(thin_sdxl, batch):
    batch = dict(batch, time_ids=torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2))
    found = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        model = build(thin_sdxl, "StableDiffusionXL", gradient_checkpointing=recomputed)
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.teacher.modules()) == recomputed
        found.append(gradients(model, batch))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(tiny_sd, batch, dtype):
    model = build(tiny_sd, dtype=dtype)
    found = gradients(model, batch)
    assert all(each.isfinite().all() for each in found.values())
    assert sum(each.abs().sum() for each in of("trained.", found).values()) > 0
    torch.manual_seed(0)
    exact = of("trained.", gradients(build(tiny_sd), batch))
    assert exact.keys() == of("trained.", found).keys()


@pytest.mark.skipif(not importlib.util.find_spec("torchao"), reason="torchao is not installed")
def test_a_teacher_in_8_bits(tiny_sd3):
    """Gradients pass through it, and are nearly those through the teacher as it was."""
    found = []
    for quantize in (None, "int8"):
        torch.manual_seed(0)
        teacher = dict(type="StableDiffusion3", checkpoint=str(tiny_sd3), quantize=quantize)
        model = Distiller(teacher=teacher, method=GRID, losses=adversarial())
        assert any(hasattr(each, "qdata") for each in model.teacher.parameters()) == bool(quantize)
        torch.manual_seed(1)
        pictures = torch.rand(2, 3, 32, 32) * 2 - 1
        found.append(gradients(model, dict(pixel_values=pictures, caption=["a dog", "a red circle"])))
    for part in ("trained.", "critics."):
        ours, exact = (torch.cat([each.flatten() for each in of(part, side).values()]) for side in (found[1], found[0]))
        assert 0 < (ours - exact).norm() < 0.5 * exact.norm()


# Every family

LAYERS = {
    "sd3": ["transformer_blocks.0", "transformer_blocks.1", "transformer_blocks.2", "transformer_blocks.3"],
    "pixart": None,
    "sana": None,
    "qwen": None,
    "flux": None,
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_transformer(kind, tmp_path):
    family, write, changes, _ = kinds.KINDS[kind]
    write(tmp_path, **changes)
    teacher = dict(type=family.__name__, checkpoint=str(tmp_path), max_sequence_length=kinds.TOKENS)
    model = Distiller(teacher=teacher, method=GRID, losses=adversarial())
    layers = model.critics["discriminator"].layers
    assert layers == LAYERS[kind] or LAYERS[kind] is None
    assert 1 <= len(layers) <= 4
    pictures = torch.rand(2, 3, kinds.HEIGHT, kinds.WIDTH) * 2 - 1
    found = gradients(model, dict(pixel_values=pictures, caption=kinds.CAPTIONS))
    assert all(each.isfinite().all() for each in found.values())
    for part in ("trained.", "critics."):
        assert sum(each.abs().sum() for each in of(part, found).values()) > 0


def test_a_unet_is_read_at_all_stages_and_a_critic_where_pictures_are_smallest(tmp_path, batch):
    folder = tiny.write_sdxl(tmp_path, layers_per_block=1, transformer_layers_per_block=1, mid_block_type=None)
    model = build(
        folder, "StableDiffusionXL", MATCHING, adversarial(network="fake_score") | dict(task=dict(type="TaskLoss"))
    )
    assert model.critics["discriminator"].layers == ["down_blocks.2"]
    model = build(folder, "StableDiffusionXL")
    stages = [f"{part}_blocks.{number}" for part in ("down", "up") for number in range(3)]
    assert model.critics["discriminator"].layers == stages
    assert score(model, dict(batch, time_ids=torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2)))["loss_adversarial"].isfinite()


def test_a_cut_student_has_the_teachers_features(tiny_sd, batch):
    model = build(tiny_sd, student=dict(keep={"mid_block.resnets": [], "mid_block.attentions": []}))
    downs, ups = ([f"{part}_blocks.{number}" for number in range(4)] for part in ("down", "up"))
    assert model.critics["discriminator"].layers == [*downs, "mid_block", *ups]
    assert sum(each.abs().sum() for each in of("trained.", gradients(model, batch)).values()) > 0


# Options


def test_layers_are_chosen_by_patterns_in_the_order_in_which_they_run(tiny_sd, batch):
    layers = ["up_blocks.*", "mid_block", "down_blocks.1.attentions.0"]
    model = build(tiny_sd, losses=adversarial(layers=layers))
    ups = [f"up_blocks.{number}" for number in range(4)]
    assert model.critics["discriminator"].layers == ["down_blocks.1.attentions.0", "mid_block", *ups]
    assert len(model.critics["discriminator"].heads) == 6
    assert score(model, batch)["loss_adversarial"].isfinite()


def test_a_head_of_its_own(tiny_sd, batch):
    model = build(tiny_sd, losses=adversarial(head=dict(type="StridedHead", width=8)))
    heads = model.critics["discriminator"]
    assert heads.heads[heads.layers.index("mid_block")][0][0].weight.shape == (8, 32, 4, 4)
    assert score(model, batch)["loss_adversarial"].isfinite()


def test_pictures_are_told_apart_at_the_timesteps_asked_for(plain, tiny_sd):
    latents = torch.zeros(500, 4, 2, 2)
    late = AdversarialLoss(timesteps=dict(type="UniformTimesteps", start=900, end=950))
    assert late.renoise(plain.teacher_schedule, latents)[0].unique().tolist() == list(range(900, 950))
    uniform = AdversarialLoss().renoise(plain.teacher_schedule, latents)[0].float()
    ladd = AdversarialLoss(timesteps=dict(type="LogitNormalTimesteps", mean=1.0)).renoise(plain.teacher_schedule, latents)[0]
    assert uniform.mean() < 550 < 650 < ladd.float().mean()


def test_the_target_may_stand_for_the_data(tiny_sd, batch):
    """Of progressive distillation it is of the student's prediction type, and stands for an x_0."""
    method = dict(type="ProgressiveDistillation", steps=1)
    model = build(tiny_sd, method=method, losses=adversarial(real="target"))
    torch.manual_seed(0)
    latents, condition = model.encode(batch)
    step = model.method(model, latents, condition)
    step.latents = latents
    loss = model.losses["adversarial"]
    real = loss.real_of(step)
    torch.testing.assert_close(step.schedule.from_sample(real, step.noisy, step.timesteps), step.target)
    assert not real.requires_grad
    same(AdversarialLoss().real_of(step), latents)


@pytest.mark.parametrize("sigma", [0.01, None])
def test_a_penalty_of_steepness(tiny_sd, batch, sigma):
    torch.manual_seed(0)
    model = build(tiny_sd, losses=adversarial(r1_sigma=sigma, head=dict(type="StridedHead")))
    loss, found = model.losses["adversarial"], []
    for loss.r1 in (0, 1, 2):
        terms = score(model, batch, turn=CRITICS)
        found.append(terms["loss_discriminator"].item())
    assert found[1] > found[0]
    assert found[2] - found[0] == pytest.approx(2 * (found[1] - found[0]), rel=0.01)
    gradients(model, batch, turn=CRITICS)


def test_the_approximate_penalty_is_the_gradient_along_its_noise(tiny_sd, batch):
    torch.manual_seed(0)
    model = build(
        tiny_sd, losses=adversarial(r1=1.0, r1_sigma=1e-3, layers=["mid_block"], head=dict(type="StridedHead", width=8))
    )
    loss, discriminator = model.losses["adversarial"], model.critics["discriminator"]
    penalised = score(model, batch, turn=CRITICS)["loss_discriminator"].item()
    loss.r1 = 0
    penalty = penalised - score(model, batch, turn=CRITICS)["loss_discriminator"].item()

    torch.manual_seed(0)
    latents, condition = model.encode(batch)
    step = model.method(model, latents, condition)
    timesteps, noisy = loss.renoise(model.teacher_schedule, latents)
    loss.renoise(model.teacher_schedule, latents, timesteps)
    along = torch.randn_like(noisy)
    noisy.requires_grad_()
    with model.tapped("teacher", ["mid_block"], condition) as look:
        (logits,) = discriminator(look(noisy, timesteps))
        slopes = [(torch.autograd.grad(logit, noisy, retain_graph=True)[0] * along).sum() for logit in logits.flatten()]
    expected = 1e-6 * torch.stack(slopes).square().mean().item()
    assert penalty == pytest.approx(expected, rel=0.15, abs=2e-7)
    assert step.prediction is not None


def test_latent_consistency_is_told_apart_at_its_x0(tiny_sd, batch):
    """PCM's term."""
    method = dict(type="LatentConsistency", guidance_scale=3.0, target="student")
    losses = dict(task=dict(type="TaskLoss")) | adversarial(weight=0.1)
    model = build(tiny_sd, method=method, losses=losses)
    torch.manual_seed(0)
    step = model.method(model, *model.encode(batch))
    assert step.sample is step.prediction
    assert {"loss_task", "loss_adversarial"} < score(model, batch).keys()


def test_a_name_of_its_own(tiny_sd, batch):
    losses = adversarial() | dict(second=dict(type="AdversarialLoss", critic="other", layers=["down_blocks.1"]))
    model = build(tiny_sd, losses=losses)
    assert list(model.critics) == ["discriminator", "other"]
    assert {"loss_second", "loss_other", "other_real"} < score(model, batch).keys()


# What cannot be


def plan(folder, method=GRID, **options):
    teacher = dict(type="StableDiffusion", checkpoint=str(folder))
    return StudentPlan(teacher=teacher, method=method, losses=adversarial(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(layers=["middle"]),
            r"AdversarialLoss: layers: a UNet2DConditionModel has no layer 'middle'; the nearest: mid_block, .*",
        ),
        (dict(layers=[]), r"AdversarialLoss: layers=\[\] leaves the discriminator nothing to read; .*"),
        (dict(layers=["time_embedding"]), r"AdversarialLoss: layers: 'time_embedding' gives neither a map nor tokens, .*"),
        (dict(kind="wgan"), r"AdversarialLoss: kind='wgan' is unknown; use 'hinge' or 'softplus'"),
        (dict(real="teacher"), r"AdversarialLoss: real='teacher' is unknown; use 'data' or 'target'"),
        (
            dict(network="fake_score"),
            r"model\.losses\.adversarial\.network='fake_score': that is 'teacher' or a network that the method trains, and"
            r" DenoisingKD trains none",
        ),
        (dict(r1=-1.0), r"AdversarialLoss: r1=-1\.0 must be a number above 0"),
        (dict(r1=1.0, r1_sigma=-1), r"AdversarialLoss: r1_sigma=-1 must be a number above 0"),
        (dict(critic_weight=0), r"AdversarialLoss: critic_weight=0 must be a number above 0"),
        (dict(critic="adversarial"), r"model\.losses\.adversarial has a critic named 'adversarial', as a loss has; .*"),
        (dict(head=dict(type="StridedHead", width=0)), r"model\.losses\.adversarial\.head\.width=0: give a whole number .*"),
        (
            dict(timesteps=dict(type="UniformTimesteps", start=2000)),
            r"UniformTimesteps: start=2000, end=None leaves the schedule, .*",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tiny_sd, options, message):
    with pytest.raises(InputError, match=rf"^{message}$"):
        plan(tiny_sd, **options)


def test_only_a_network_of_the_method_is_run(tiny_sd):
    with pytest.raises(InputError, match=r"network='discriminator'.* DistributionMatching trains fake_score$"):
        plan(tiny_sd, method=MATCHING, network="discriminator")
