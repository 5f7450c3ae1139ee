"""TeacherAgreement on tiny pipelines, against the denoisers called by hand."""

import json

import numpy as np
import pytest
import runs
import torch
from transformers import AutoModel

from diffdistill.errors import InputError
from diffdistill.metrics.agreement import TeacherAgreement
from diffdistill.models.distiller import Distiller

KEEP = {"down_blocks.*.resnets": [0], "down_blocks.*.attentions": [0], "up_blocks.*.resnets": [0, 2]}
KEEP |= {"up_blocks.*.attentions": [0, 2]}
BATCH = dict(caption=["a red circle", "a blue square", "a dog"], seed=[3, 4, 5])
LOSSES = dict(output=dict(type="OutputKD"))


def distiller(family: str, folder, **options) -> Distiller:
    sampling = dict(num_inference_steps=1, guidance_scale=1.0)
    return Distiller(teacher=dict(type=family, checkpoint=str(folder)), losses=LOSSES, sampling=sampling, **options).eval()


def measured(metric: TeacherAgreement, model: Distiller) -> dict:
    metric.model = model
    metric.process(None, model(mode="predict", **BATCH))
    return metric.evaluate(3)


@pytest.mark.parametrize(("family", "fixture"), [("StableDiffusion", "tiny_sd"), ("StableDiffusionXL", "thin_sdxl")])
def test_a_student_that_is_the_teacher_agrees_with_it(family, fixture, request, tiny_dino):
    model = distiller(family, request.getfixturevalue(fixture))
    metric = TeacherAgreement([0, 999], checkpoint=str(tiny_dino))
    figures = measured(metric, model)
    distance = figures.pop("feature_distance")
    assert figures == dict(latent_mse_t0=0, latent_mse_t999=0, latent_mse=0)
    assert distance == pytest.approx(0, abs=1e-6)
    assert metric.settings() == dict(timesteps=[0, 999], pictures=256, weights="dino")


def test_the_curve_is_the_difference_of_the_predictions(tiny_sd):
    model = distiller("StableDiffusion", tiny_sd, student=dict(keep=KEEP))
    figures = measured(TeacherAgreement([50, 800]), model)
    latents = model.sample_latents(BATCH["caption"], BATCH["seed"], teacher=True)
    noise = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in BATCH["seed"]])
    condition = model.family.encode_captions(model.frozen.pipeline, BATCH)
    for timestep in (50, 800):
        t = torch.full((3,), timestep)
        noisy = model.noise_schedule.add_noise(latents, noise, t)
        with torch.no_grad():
            ours, theirs = (denoiser(noisy, t, **condition).sample for denoiser in (model.student, model.teacher))
        assert figures[f"latent_mse_t{timestep}"] == pytest.approx((ours - theirs).square().mean().item(), rel=1e-5)
    assert figures["latent_mse"] == pytest.approx((figures["latent_mse_t50"] + figures["latent_mse_t800"]) / 2)
    assert set(figures) == {"latent_mse_t50", "latent_mse_t800", "latent_mse"}


def noisy_latents(model: Distiller, timestep: int):
    """What both denoisers see: noisy latents, timesteps and the conditioning of the captions."""
    latents = model.sample_latents(BATCH["caption"], BATCH["seed"], teacher=True)
    noise = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in BATCH["seed"]])
    t = torch.full((3,), timestep)
    return model.noise_schedule.add_noise(latents, noise, t), t, captions(model, BATCH["caption"])


def captions(model: Distiller, given: list[str]) -> dict:
    return model.family.encode_captions(model.frozen.pipeline, dict(caption=given))


@pytest.mark.parametrize(("fixture", "student"), [("tiny_sd", "v_prediction"), ("tiny_sd_v", "epsilon")])
def test_predictions_are_compared_in_the_teachers_type(fixture, student, request):
    """eps = sigma z + alpha v and v = (eps - sigma z) / alpha, written out."""
    model = distiller("StableDiffusion", request.getfixturevalue(fixture), student=dict(keep=KEEP, prediction_type=student))
    figures = measured(TeacherAgreement([100, 900]), model)
    for timestep in (100, 900):
        noisy, t, condition = noisy_latents(model, timestep)
        with torch.no_grad():
            ours, theirs = (denoiser(noisy, t, **condition).sample for denoiser in (model.student, model.teacher))
        alpha, sigma = model.noise_schedule.coefficients(t, noisy)
        ours = sigma * noisy + alpha * ours if student == "v_prediction" else (ours - sigma * noisy) / alpha
        assert figures[f"latent_mse_t{timestep}"] == pytest.approx((ours - theirs).square().mean().item(), rel=1e-4)


FOLDED = dict(type="GuidanceDistillation", guidance_scale=6.0)
TOLD = dict(type="GuidanceDistillation", guidance_scale=[4.0, 10.0])
METHODS = [
    (FOLDED, None, 6.0),
    (TOLD, 32, 7.0),
    (dict(type="ProgressiveDistillation", steps=4, guidance_scale=3.0), None, 3.0),
    (dict(type="LatentConsistency", guidance_scale=[2.0, 4.0]), 32, 3.0),
    (dict(type="ProgressiveDistillation", steps=4), None, None),
]


@pytest.mark.parametrize(("method", "width", "scale"), METHODS, ids=str)
def test_a_student_of_a_guided_teacher_is_compared_with_one(method, width, scale, tiny_sd):
    """At the scale that the student is told, and sampled with, or that it has folded in."""
    model = distiller("StableDiffusion", tiny_sd, student=dict(keep=KEEP, guidance_embedding=width), method=method)
    metric, own = TeacherAgreement([500]), {}
    if width:
        torch.nn.init.normal_(model.student.time_embedding.cond_proj.weight)  # they begin at 0
        embed = model.frozen.pipeline.get_guidance_scale_embedding
        own = dict(timestep_cond=embed(torch.full((3,), scale - 1), embedding_dim=width))
    figures = measured(metric, model)
    noisy, t, condition = noisy_latents(model, 500)
    with torch.no_grad():
        theirs, ours = model.teacher(noisy, t, **condition).sample, model.student(noisy, t, **condition, **own).sample
        if scale is not None:
            empty = model.teacher(noisy, t, **captions(model, [""] * 3)).sample
            theirs = empty + scale * (theirs - empty)
    assert figures["latent_mse_t500"] == pytest.approx((ours - theirs).square().mean().item(), rel=1e-4)
    assert metric.settings().get("agrees_under_guidance") == scale


def test_a_told_student_is_told_the_scale_it_is_sampled_with(tiny_sd):
    model = distiller("StableDiffusion", tiny_sd, student=dict(guidance_embedding=32), method=TOLD)
    metric, found = TeacherAgreement([500]), []
    for scale in (5.0, 9.0):
        model.sample_with(guidance_scale=scale)
        found.append(measured(metric, model)["latent_mse"])
        assert metric.settings()["agrees_under_guidance"] == scale
    assert 0 < found[0] < found[1]


@pytest.mark.parametrize("kind", ["tiny_dino", "tiny_clip"])
def test_the_distance_is_one_minus_the_cosine_of_the_features(kind, tiny_sd, request):
    folder = request.getfixturevalue(kind)
    model = distiller("StableDiffusion", tiny_sd)
    metric = TeacherAgreement([500], checkpoint=str(folder))
    metric.model = model
    theirs = model.sample(BATCH["caption"], BATCH["seed"], teacher=True)
    ours = np.random.default_rng(0).integers(0, 256, theirs.shape, dtype=np.uint8)  # as if of a student far from it
    columns = dict(**BATCH, image=list(ours))
    metric.process(None, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    figures = metric.evaluate(3)
    network, features = AutoModel.from_pretrained(folder).eval(), []
    for pictures in (theirs, ours):
        pixels = metric.encoder.prepare(images=list(pictures), return_tensors="pt").pixel_values
        with torch.no_grad():
            if kind == "tiny_clip":
                features.append(network.visual_projection(network.vision_model(pixels).pooler_output))
            else:
                features.append(network(pixels).last_hidden_state[:, 0])
    expected = 1 - torch.cosine_similarity(*features).mean().item()
    assert figures["feature_distance"] == pytest.approx(expected, abs=1e-6)
    assert expected > 1e-3


def test_only_the_first_pictures_are_taken_and_the_teacher_is_sampled_once(tiny_sd):
    model = distiller("StableDiffusion", tiny_sd)
    sampled, sample = [], model.sample_latents
    model.sample_latents = lambda captions, seeds, teacher=False: (
        sampled.append(captions) or sample(captions, seeds, teacher)
    )
    metric = TeacherAgreement([500], pictures=2)
    records = [dict(caption=caption, seed=seed) for caption, seed in zip(*BATCH.values(), strict=True)]
    metric.model = model
    for _ in range(2):
        metric.process(None, records)
        metric.process(None, records)
        assert len(metric.results) == 2
        metric.evaluate(3)
    assert sampled == [("a red circle", "a blue square")]


def test_the_teacher_agrees_with_itself(tiny_sd):
    model = distiller("StableDiffusion", tiny_sd, student=dict(keep=KEEP))
    model.draws_teacher = True
    assert measured(TeacherAgreement([500]), model)["latent_mse"] == 0


@pytest.mark.parametrize("bad", [dict(timesteps=[]), dict(timesteps=[0.5]), dict(timesteps=[-1]), dict(pictures=0)])
def test_bad_settings_are_refused(bad):
    with pytest.raises(InputError, match=f"TeacherAgreement.{next(iter(bad))}="):
        TeacherAgreement(**bad)


def test_a_timestep_past_the_schedule_is_refused(tiny_sd):
    with pytest.raises(InputError, match="ends at 999"):
        measured(TeacherAgreement([1000]), distiller("StableDiffusion", tiny_sd))


def test_without_the_hook_the_error_names_it():
    with pytest.raises(InputError, match="EvaluationHook"):
        TeacherAgreement().process(None, [dict(caption="a", seed=0)])


def test_a_run_logs_the_curve(thin_sdxl, tmp_path):
    """By the tools: the hook hands the model over in training and in a test, which find the same."""
    options = runs.shapes(thin_sdxl, val_evaluator__type="TeacherAgreement", val_evaluator__timesteps="[200,600]")
    runs.trained(runs.SHAPES, tmp_path / "run", options)

    records = json.loads((tmp_path / "run" / "results.json").read_text())["validation"]
    assert [record["model"] for record in records] == ["teacher", "student", "student"]
    assert records[0]["latent_mse"] == 0 < records[1]["latent_mse"]
    assert {"latent_mse_t200", "latent_mse_t600"} < set(records[1])
    assert records[1]["protocol"]["metrics"]["TeacherAgreement"]["timesteps"] == [200, 600]


def test_a_run_without_a_teacher_is_refused_before_it_starts(thin_sdxl, tmp_path):
    changes = dict(model__losses__output=None, model__losses__feature=None, val_evaluator__type="TeacherAgreement")
    ended = runs.tool(
        "train", runs.SHAPES, "--work-dir", tmp_path / "run", *runs.options(**runs.shapes(thin_sdxl, **changes))
    )
    assert ended.code == 2
    assert "val_evaluator: TeacherAgreement compares with the teacher" in ended.err
    assert not (tmp_path / "run").exists()
