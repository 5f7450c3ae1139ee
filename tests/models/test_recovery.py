"""What a cut transformer recovers by: pairs of both streams, block-local recovery, first weights, frozen layers."""

import pytest
import tiny_transformers
import torch

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.losses import FeatureKD
from diffdistill.models.student import StudentPlan
from diffdistill.registry import MODELS
from diffdistill.students.cut import LayerMap
from diffdistill.students.features import FeatureTaps, trace
from diffdistill.students.weights import make_student

BOTH = ["transformer_blocks.*", "transformer_blocks.*:text"]


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    """Six blocks: a cut to 0, 2 and 5 leaves intervals of two, three and one."""
    return tiny_transformers.write_sd3(tmp_path_factory.mktemp("recovery") / "sd3", num_layers=6)


def model(folder, losses=None, **changes):
    student = dict(keep={"transformer_blocks": [0, 2, 5]}, **changes.pop("student", {}))
    return dict(
        type="Distiller",
        teacher=dict(type="StableDiffusion3", checkpoint=str(folder), max_sequence_length=4),
        student=student,
        losses=losses or dict(feature=dict(type="FeatureKD")),
        **changes,
    )


def recovery(folder, **changes):
    return model(folder, **{"method": dict(type="BlockRecovery"), "feature_pairs": dict(level=BOTH), **changes})


def batch(seed=0):
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return dict(pixel_values=pictures, caption=["a red circle", ""])


# Pairs


def test_each_stream_has_pairs_of_its_own(sd3):
    """The last block returns no text, so the text's last interval ends before it."""
    assert check_model(model(sd3, feature_pairs=dict(level=BOTH))).pairs == [
        ("transformer_blocks.0", "transformer_blocks.1"),
        ("transformer_blocks.0:text", "transformer_blocks.1:text"),
        ("transformer_blocks.1", "transformer_blocks.4"),
        ("transformer_blocks.1:text", "transformer_blocks.4:text"),
        ("transformer_blocks.2", "transformer_blocks.5"),
    ]


def test_the_pictures_stream_is_compared_where_none_is_named(sd3):
    plan = check_model(model(sd3))
    shapes = trace(plan.family.denoiser_class, plan.config)
    tokens = (plan.config["sample_size"] // plan.config["patch_size"]) ** 2
    assert [pair for pair in plan.pairs if ":" in pair[0]] == []
    assert shapes["transformer_blocks.0"][1] == tokens
    assert shapes["transformer_blocks.0:text"][1] == 77 + 256
    assert "transformer_blocks.2:text" not in shapes


# Block-local recovery


def test_blocks_are_run_on_the_teachers_inputs(sd3):
    """Features of the step against the teacher's blocks, called by hand one after the other."""
    distiller = MODELS.build(recovery(sd3)).eval()
    torch.manual_seed(0)
    latents, condition = distiller.encode(batch())
    torch.manual_seed(1)
    step = distiller.method(distiller, latents, condition)
    assert step.prediction is None
    assert set(step.features) == {
        f"transformer_blocks.{ours}{stream} <- transformer_blocks.{theirs}{stream}"
        for ours, theirs in ((0, 1), (1, 4))
        for stream in ("", ":text")
    }
    teacher, student = distiller.teacher, distiller.student
    with FeatureTaps(teacher, ["transformer_blocks.1", "transformer_blocks.1:text"]).record() as before:
        distiller.family.predict(teacher, step.noisy, step.timesteps, condition)
    temb = teacher.time_text_embed(step.timesteps, condition["pooled_projections"])
    text, picture = student.transformer_blocks[1](
        hidden_states=before["transformer_blocks.1"], encoder_hidden_states=before["transformer_blocks.1:text"], temb=temb
    )
    torch.testing.assert_close(step.features["transformer_blocks.1 <- transformer_blocks.4"][0], picture)
    torch.testing.assert_close(step.features["transformer_blocks.1:text <- transformer_blocks.4:text"][0], text)


def test_only_blocks_before_a_gap_get_gradients(sd3):
    distiller = MODELS.build(recovery(sd3))
    sum(distiller(mode="loss", **batch()).values()).backward()
    moved = {name.split(".")[1] for name, weight in distiller.student.named_parameters() if weight.grad is not None}
    assert moved == {"0", "1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(losses=dict(task=dict(type="TaskLoss"))),
            r"model\.losses\.task: TaskLoss compares predictions, and BlockRecovery runs single layers, which predict",
        ),
        (dict(losses=dict(output=dict(type="OutputKD"))), r"model\.losses\.output: OutputKD compares predictions"),
        (dict(feature_pairs=dict(level=BOTH, rule="same")), r"model\.method: BlockRecovery finds no layer behind which"),
    ],
)
def test_what_block_recovery_cannot_use_is_refused(sd3, changes, message):
    with pytest.raises(InputError, match=message):
        check_model(recovery(sd3, **changes))


# First weights and frozen layers


def test_an_interval_reaches_to_the_next_kept_layer():
    layers = LayerMap({"blocks": [0, 2, 5], "heads": [0, 1]}, {"blocks": 7, "heads": 2})
    assert layers.interval("blocks.2.norm.weight") == [f"blocks.{i}.norm.weight" for i in (2, 3, 4)]
    assert layers.interval("blocks.5.norm.weight") == [f"blocks.{i}.norm.weight" for i in (5, 6)]
    assert layers.interval("heads.1.weight") == ["heads.1.weight"]
    assert layers.interval("proj_out.weight") == ["proj_out.weight"]


def test_first_weights_are_the_mean_of_an_interval(sd3):
    teacher = MODELS.build(dict(type="StableDiffusion3", checkpoint=str(sd3))).load_denoiser()
    keep = {"transformer_blocks": [0, 2, 5]}
    student, plain = (make_student(teacher, keep, first_weights=kind)[0].state_dict() for kind in ("mean", "kept"))
    source, name = teacher.state_dict(), "transformer_blocks.{}.attn.to_q.weight"
    mean = torch.stack([source[name.format(i)] for i in (2, 3, 4)]).mean(0)
    torch.testing.assert_close(student[name.format(1)], mean)
    assert torch.equal(plain[name.format(1)], source[name.format(2)])
    assert torch.equal(student[name.format(2)], source[name.format(5)])
    assert torch.equal(student["proj_out.weight"], source["proj_out.weight"])


def test_frozen_layers_have_no_gradients_and_count_as_such(sd3):
    config = model(sd3, student=dict(frozen=["transformer_blocks.0", "*_embedder"]))
    plan = check_model(dict(config))
    distiller = MODELS.build(config)
    for each in (plan.on_meta["transformer"], distiller.student):
        frozen = {name.rsplit(".", 1)[0] for name, weight in each.named_parameters() if not weight.requires_grad}
        assert "transformer_blocks.0.attn.to_q" in frozen
        assert "context_embedder" in frozen
        assert not any(name.startswith("transformer_blocks.1") for name in frozen)
    whole = check_model(model(sd3))
    assert all(weight.requires_grad for weight in whole.on_meta.parameters()), "the model that plans share is as it was"


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (dict(frozen=["blocks.0"]), r"model\.student\.frozen: 'blocks\.0' matches no module of the student"),
        (dict(first_weights="sum"), r"model\.student\.first_weights='sum' is unknown; use 'kept' or 'mean'"),
        (
            dict(frozen=["proj_out"], adapter=dict(type="LoraConfig", target_modules=["to_q"])),
            r"model\.student\.frozen=\['proj_out'\] would stay untrained: with model\.student\.adapter",
        ),
    ],
)
def test_bad_options_of_the_student_are_refused(sd3, student, message):
    with pytest.raises(InputError, match=message):
        check_model(model(sd3, student=student))


# Features


def test_tokens_are_compared_by_direction():
    """|a/|a| - b/|b||^2 = 2 - 2 cos, meant over tokens; of a map of features every place is a token."""
    a, b = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    expected = (2 - 2 * torch.cosine_similarity(a, b, dim=-1)).mean()
    loss = FeatureKD(normalize="tokens")
    torch.testing.assert_close(loss.distance(a, b), expected)
    torch.testing.assert_close(loss.distance(7 * a, b), expected)
    as_maps = (side.transpose(1, 2).unflatten(2, (5, 1)) for side in (a, b))
    torch.testing.assert_close(loss.distance(*as_maps), expected)


def test_outliers_of_the_teacher_do_not_count():
    teacher = torch.tensor([[1.0] * 50 + [-1.0] * 50 + [90.0]])
    student = teacher.clone()
    student[0, -1], student[0, 0] = 0.0, 3.0
    assert FeatureKD(mask_outliers=2.0).distance(student, teacher) == pytest.approx(4 / 100)
    assert FeatureKD().distance(student, teacher) > 80


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(InputError, match="FeatureKD: normalize='token' is unknown; use False, 'power' or 'tokens'"):
        FeatureKD(normalize="token")


# Bad input of transformers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(student=dict(keep={"transformer_blocks": [0, 1, 2]})),
            r"student\.keep\['transformer_blocks'\] = \[0, 1, 2\] lacks the last block, 5: it alone returns no text",
        ),
        (
            dict(student=dict(guidance_embedding=256)),
            r"model\.student\.guidance_embedding=256: a SD3Transformer2DModel has no place for one; leave it out",
        ),
        (
            dict(method=dict(type="DenoisingKD", guidance_scale=3.5)),
            r"model\.method\.guidance_scale=3\.5: the student has no embedding of the scale, so it cannot be told",
        ),
        (dict(student=dict(prediction_type="epsilon")), r"prediction_type 'epsilon' is not supported by a flow-matching"),
        (
            dict(sampling=dict(height=34)),
            r"model\.sampling: pictures of 34 x 32 do not split into the tokens of a StableDiffusion3, which are 4 pixels",
        ),
        (dict(sampling=dict(scheduler="DDIMScheduler")), r"model\.sampling\.scheduler=DDIMScheduler does not sample flow"),
    ],
)
def test_what_transformers_cannot_do_is_refused(sd3, changes, message):
    config = model(sd3, losses=dict(task=dict(type="TaskLoss")))
    config["student"] = config["student"] | changes.pop("student", {})
    with pytest.raises(InputError, match=message):
        check_model(config | changes)


def test_zero_terminal_snr_has_no_meaning(sd3):
    with pytest.raises(InputError, match=r"model\.teacher\.zero_terminal_snr=True: flow matching ends in pure noise"):
        StudentPlan(dict(type="StableDiffusion3", checkpoint=str(sd3), zero_terminal_snr=True), {})
