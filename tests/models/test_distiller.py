"""The distiller: a step is what diffusers would compute by hand, and nothing but the student is trained, saved or copied."""

import copy
import gc
import weakref

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diffdistill.errors import InputError
from diffdistill.models.distiller import Distiller
from diffdistill.models.student import StudentPlan
from diffdistill.students.weights import make_student

SHALLOW = {
    "mid_block.attentions": [],
    "mid_block.resnets": [0],
    "down_blocks.2.attentions.*.transformer_blocks": [0, 1],
    "up_blocks.0.attentions.*.transformer_blocks": [0],
}
TASK = dict(task=dict(type="TaskLoss"))
ALL = TASK | dict(output=dict(type="OutputKD"), feature=dict(type="FeatureKD"))
SAMPLING = dict(num_inference_steps=2, guidance_scale=3.0)


def sdxl(folder, **options):
    options = dict(student=dict(keep=SHALLOW), losses=ALL, sampling=SAMPLING) | options
    return Distiller(teacher=dict(type="StableDiffusionXL", checkpoint=str(folder)), **options)


@pytest.fixture(scope="module")
def distiller(tiny_sdxl):
    """SDXL with a shallow student; tests that change it make their own."""
    return sdxl(tiny_sdxl)


@pytest.fixture(scope="module")
def task_only(tiny_sdxl):
    return sdxl(tiny_sdxl, losses=TASK)


@pytest.fixture(scope="module")
def plain(tiny_sdxl):
    return diffusers.StableDiffusionXLPipeline.from_pretrained(tiny_sdxl)


@pytest.fixture
def batch():
    """Two pictures, the second without a caption; sizes that bf16 would round."""
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    sizes = torch.tensor([[1023.0, 767, 0, 5, 1024, 1024], [32, 32, 0, 0, 32, 32]])
    return dict(pixel_values=pictures, caption=["a red circle", ""], time_ids=sizes)


def losses(distiller, batch, seed=0):
    torch.manual_seed(seed)
    return distiller(**batch, mode="loss")


def step_of(distiller, batch, seed=0):
    """The step that the losses see."""
    torch.manual_seed(seed)
    return distiller.method(distiller, *distiller.encode(batch))


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


# What a step computes


@pytest.mark.parametrize("name", ["tiny_sdxl", "tiny_sd", "tiny_sd_v"])
def test_a_step_is_a_bare_diffusers_step(name, request, batch):
    folder = request.getfixturevalue(name)
    is_sdxl = name == "tiny_sdxl"
    family = "StableDiffusionXL" if is_sdxl else "StableDiffusion"
    keep = {"mid_block.attentions": [], "mid_block.resnets": [1]}
    distiller = Distiller(
        teacher=dict(type=family, checkpoint=str(folder)),
        student=dict(keep=keep),
        losses=ALL,
        feature_pairs=dict(rule="same"),
    )

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
    unet, _ = make_student(pipe.unet, keep)
    scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    if is_sdxl:
        prompts, empty, pooled, no_pooled = pipe.encode_prompt(batch["caption"], device="cpu", num_images_per_prompt=1)
        prompts, pooled = torch.cat([prompts[:1], empty[1:]]), torch.cat([pooled[:1], no_pooled[1:]])
        extra = dict(added_cond_kwargs=dict(text_embeds=pooled, time_ids=batch["time_ids"]))
    else:
        prompts, extra = pipe.encode_prompt(batch["caption"], "cpu", 1, False)[0], {}
    torch.manual_seed(0)
    with torch.no_grad():
        latents = pipe.vae.encode(batch["pixel_values"]).latent_dist.sample() * pipe.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (2,))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        prediction = unet(noisy, timesteps, prompts, **extra).sample
        teachers = pipe.unet(noisy, timesteps, prompts, **extra).sample
    target = scheduler.get_velocity(latents, noise, timesteps) if name == "tiny_sd_v" else noise

    step = step_of(distiller, batch)
    assert step.timesteps.equal(timesteps)
    close = dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(step.noisy, noisy, **close)
    torch.testing.assert_close(step.target, target, **close)
    torch.testing.assert_close(step.prediction, prediction, **close)
    torch.testing.assert_close(step.teacher_prediction, teachers, **close)
    terms = losses(distiller, batch)
    torch.testing.assert_close(terms["loss_task"], F.mse_loss(prediction, target), **close)
    torch.testing.assert_close(terms["loss_output"], F.mse_loss(prediction, teachers), **close)
    assert terms["loss_feature"] > 0


def test_the_teacher_has_nothing_to_teach_itself(tiny_sdxl, batch):
    terms = losses(sdxl(tiny_sdxl, student=None), batch)
    assert terms["loss_task"] > 0.1
    assert terms["loss_output"] < 1e-10
    assert terms["loss_feature"] < 1e-8


def test_terms_are_named_in_the_config_and_weighted(distiller, tiny_sdxl, batch):
    weighted = dict(
        task=dict(type="TaskLoss", weight=2.0),
        mine=dict(type="FeatureKD", weight=0.25),
        output=None,
        kd=dict(type="OutputKD"),
    )
    plain, ours = losses(distiller, batch), losses(sdxl(tiny_sdxl, losses=weighted), batch)
    assert ours.keys() == {"loss_task", "loss_mine", "loss_kd"}
    same(ours["loss_task"], 2 * plain["loss_task"])
    same(ours["loss_mine"], 0.25 * plain["loss_feature"])
    same(ours["loss_kd"], plain["loss_output"])


def test_features_are_those_of_the_pairs(distiller, batch):
    step = step_of(distiller, batch)
    assert list(step.features) == [f"{ours} <- {theirs}" for ours, theirs in distiller.pairs]
    assert "mid_block.resnets.0 <- mid_block.resnets.1" in step.features
    assert len(step.features) == 26
    for student, teacher in step.features.values():
        assert student.shape == teacher.shape
        assert student.requires_grad
        assert not teacher.requires_grad
    assert not step.teacher_prediction.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_recomputation_changes_no_gradient(tiny_sdxl, batch, dtype):
    """Backward runs every checkpointed block again; a feature recorded then would count twice."""
    gradients, runs = [], []
    for checkpointing in (False, True):
        distiller = sdxl(tiny_sdxl, gradient_checkpointing=checkpointing, dtype=dtype).train()
        runs.append(0)

        def count(*_):
            runs[-1] += 1

        distiller.student.down_blocks[1].resnets[0].register_forward_pre_hook(count)
        sum(losses(distiller, batch).values()).backward()
        gradients.append({name: parameter.grad for name, parameter in distiller.named_parameters()})
        for denoiser in (distiller.student, distiller.teacher):
            assert not any(module._forward_hooks for module in denoiser.modules())
    assert runs == [1, 2]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_features_do_not_outlive_their_step(tiny_sdxl, batch, checkpointing):
    distiller = sdxl(tiny_sdxl, gradient_checkpointing=checkpointing).train()
    alive = []

    def spy(step):
        alive.extend(weakref.ref(feature) for pair in step.features.values() for feature in pair)
        alive.extend(weakref.ref(tensor) for tensor in (step.prediction, step.teacher_prediction))
        return step.prediction.sum() * 0

    distiller.losses["spy"] = spy
    terms = losses(distiller, batch)
    sum(terms.values()).backward()
    del terms
    gc.collect()
    assert len(alive) == 2 * 26 + 2
    assert not [reference for reference in alive if reference() is not None]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sizes_reach_both_denoisers_unrounded(tiny_sdxl, batch, dtype):
    """1023 is 1024 in bf16."""
    distiller = sdxl(tiny_sdxl, losses=TASK | dict(output=dict(type="OutputKD")), dtype=dtype)
    seen = []
    for denoiser in (distiller.student, distiller.teacher):
        denoiser.add_time_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten().tolist()))
    step = step_of(distiller, batch)
    assert seen == 2 * [batch["time_ids"].flatten().tolist()]
    assert step.prediction.dtype == step.teacher_prediction.dtype == getattr(torch, dtype)
    assert step.target.dtype == step.noisy.dtype == torch.float32


# What is frozen


def test_only_the_student_is_saved_and_trained(distiller):
    assert all(name.startswith("trained.unet.") for name in distiller.state_dict())
    assert {id(p) for p in distiller.parameters()} == {id(p) for p in distiller.student.parameters()}
    assert not {id(module) for module in distiller.modules()} & {id(model) for model in frozen_models(distiller).values()}
    assert all(parameter.requires_grad for parameter in distiller.parameters())


def frozen_models(distiller) -> dict[str, nn.Module]:
    components = distiller.frozen.pipeline.components
    return {name: model for name, model in components.items() if isinstance(model, nn.Module)}


def test_frozen_parts_stay_in_eval_mode_and_in_the_compute_dtype(tiny_sdxl):
    distiller = sdxl(tiny_sdxl, dtype="bfloat16").train()
    models = frozen_models(distiller)
    assert models.keys() == {"unet", "vae", "text_encoder", "text_encoder_2"}
    assert models["unet"] is distiller.teacher
    for model in models.values():
        assert not any(module.training for module in model.modules())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert distiller.student.training
    assert {parameter.dtype for parameter in distiller.parameters()} == {torch.float32}


def test_frozen_parts_move_with_the_student(tiny_sdxl):
    distiller = sdxl(tiny_sdxl).to("meta")
    for model in (distiller.student, *frozen_models(distiller).values()):
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_a_deep_copy_copies_the_student_alone(distiller, batch):
    """As EMA makes; SDXL's teacher and text encoders would be another 7 GB."""
    memo = {}
    twin = copy.deepcopy(distiller, memo)
    assert twin.student is not distiller.student
    assert twin.teacher is distiller.teacher
    copied = memo.keys() & {id(parameter) for model in frozen_models(distiller).values() for parameter in model.parameters()}
    assert not copied
    before = losses(distiller, batch)
    with torch.no_grad():
        twin.student.conv_out.bias += 1
    same(losses(distiller, batch), before)
    after = losses(twin, batch)
    assert after["loss_task"] != before["loss_task"]
    after["loss_feature"].backward()
    assert twin.student.conv_in.weight.grad is not None
    assert distiller.student.conv_in.weight.grad is None


def test_without_a_loss_that_needs_it_no_teacher_is_kept(task_only, distiller, batch):
    assert task_only.teacher is None
    assert frozen_models(task_only).keys() == {"vae", "text_encoder", "text_encoder_2"}
    step = step_of(task_only, batch)
    assert step.teacher_prediction is None
    assert not step.features
    same(losses(task_only, batch)["loss_task"], losses(distiller, batch)["loss_task"])


def test_outputs_alone_need_no_features(tiny_sdxl, batch):
    distiller = sdxl(tiny_sdxl, losses=dict(output=dict(type="OutputKD")))
    assert not distiller.pairs
    assert not step_of(distiller, batch).features


# Sampling


def test_the_teachers_pictures_are_the_pipelines(distiller, plain):
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    captions = ["a red circle", "a dog"]
    expected = plain(captions, generator=generators, output_type="np", **SAMPLING).images
    pictures = distiller.sample(captions, [7, 8], teacher=True)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, (expected * 255).round().astype(np.uint8))
    assert not np.array_equal(pictures, distiller.sample(captions, [7, 8]))


def test_the_students_pictures_are_those_of_a_pipeline_with_it(distiller, plain):
    pipeline = diffusers.StableDiffusionXLPipeline(**plain.components | {"unet": distiller.student})
    trailing = dict(timestep_spacing="trailing", clip_sample=False)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(plain.scheduler.config, **trailing)
    expected = pipeline("a dog", generator=torch.Generator().manual_seed(3), output_type="np", **SAMPLING).images
    distiller.sampling["scheduler"] = dict(type="DDIMScheduler", timestep_spacing="trailing")
    try:
        pictures = distiller.sample(["a dog"], [3])
    finally:
        del distiller.sampling["scheduler"]
    assert np.array_equal(pictures, (expected * 255).round().astype(np.uint8))
    assert not np.array_equal(pictures, distiller.sample(["a dog"], [3]))


def test_a_picture_follows_from_its_seed_whatever_else_is_drawn(distiller):
    captions = ["a red circle", "a dog", "a dog"]
    three = distiller.sample(captions, [1, 2, 3]).astype(int)
    alone = distiller.sample(captions[1:2], [2]).astype(int)
    torch.manual_seed(99)
    turned = distiller.sample(captions[::-1], [3, 2, 1])[::-1].astype(int)
    assert np.abs(three[1] - alone[0]).max() <= 1  # kernels round differently for another batch size
    assert np.abs(three - turned).max() <= 1
    assert np.abs(three[1] - three[2]).max() > 10


def test_sampling_draws_no_random_number_and_leaves_train_mode_as_it_was(distiller):
    distiller.train()
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    distiller.sample(["a dog"], [0])
    same(torch.rand(1), expected)
    assert distiller.student.training
    assert not distiller.teacher.training
    distiller.eval()
    distiller.sample(["a dog"], [0])
    assert not distiller.student.training


def test_prediction_adds_a_picture_to_every_record(distiller):
    batch = dict(caption=["a dog", "a red circle"], seed=[1, 2], index=[10, 20])
    records = distiller(**batch, mode="predict")
    assert [(row["caption"], row["seed"], row["index"]) for row in records] == [("a dog", 1, 10), ("a red circle", 2, 20)]
    student = np.stack([row["image"] for row in records])
    assert np.array_equal(student, distiller.sample(batch["caption"], batch["seed"]))
    distiller.draws_teacher = True
    teacher = distiller(**batch, mode="predict")
    distiller.draws_teacher = False
    assert not np.array_equal(student[0], teacher[0]["image"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sampling_works_in_half_precision(tiny_sdxl, distiller, dtype):
    drawn, whole = (
        torch.randn(64, generator=torch.Generator().manual_seed(1), dtype=getattr(torch, name))
        for name in (dtype, "float32")
    )
    if (drawn.float() - whole).abs().max() > 0.1:
        pytest.skip("this torch draws other noise in half precision")
    half = sdxl(tiny_sdxl, dtype=dtype)
    for teacher in (False, True):
        pictures = [model.sample(["a dog"], [1], teacher=teacher).astype(float) for model in (half, distiller)]
        assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 20


# The student's first weights


@pytest.mark.parametrize("of", ["folder", "pipeline"])
def test_a_students_own_checkpoint_is_loaded(tiny_sdxl, plain, tmp_path, of):
    """In place of the teacher's weights; where no loss needs the teacher, its denoiser is not even read."""
    torch.manual_seed(1)
    student, _ = make_student(plain.unet, SHALLOW, fresh=["conv_out.*"])
    (
        student if of == "folder" else diffusers.StableDiffusionXLPipeline(**plain.components | {"unet": student})
    ).save_pretrained(tmp_path)
    distiller = sdxl(tiny_sdxl, student=dict(keep=SHALLOW, checkpoint=str(tmp_path)), losses=TASK)
    same(distiller.student.state_dict(), student.state_dict())
    assert not distiller.student.conv_out.weight.equal(plain.unet.conv_out.weight)
    assert distiller.teacher is None


def plan(folder, **student):
    return StudentPlan(dict(type="StableDiffusionXL", checkpoint=str(folder)), TASK, student)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({}, r"down_blocks\.2\.attentions\.0\.transformer_blocks\.2\.\S+ is nothing and should be \(32, 32\)"),
        (SHALLOW | {"mid_block.resnets": []}, r"mid_block\.resnets\.0\.conv1\.bias is \(32,\) and should be nothing"),
    ],
)
def test_the_checkpoint_of_another_student_is_refused_before_it_is_loaded(tiny_sdxl, plain, tmp_path, keep, message):
    make_student(plain.unet, SHALLOW)[0].save_pretrained(tmp_path)
    start = f"model.student.checkpoint={tmp_path} is not the student that model.student.keep describes: "
    with pytest.raises(InputError, match=start + message):
        plan(tiny_sdxl, keep=keep, checkpoint=str(tmp_path))
    plan(tiny_sdxl, keep=SHALLOW, checkpoint=str(tmp_path))


@pytest.mark.parametrize(("name", "message"), [("vae", "AutoencoderKL"), ("no", "no such folder")])
def test_a_student_checkpoint_that_is_none(tiny_sdxl, name, message):
    with pytest.raises(InputError, match=f"model.student.checkpoint={tiny_sdxl / name}.*{message}"):
        plan(tiny_sdxl, checkpoint=str(tiny_sdxl / name))


def test_tensors_without_a_source_are_found_before_the_teacher_is_loaded(tiny_sdxl):
    """The last layer of an up stage cannot be a middle one: its skip connection is that of the stage above."""
    keep = {"down_blocks.*.resnets": [0], "down_blocks.*.attentions": [0]}
    keep |= {"up_blocks.*.resnets": [0, 1], "up_blocks.*.attentions": [0, 1]}
    with pytest.raises(InputError, match="has no source of its shape in the teacher"):
        plan(tiny_sdxl, keep=keep)
    plan(tiny_sdxl, keep=keep, fresh=["up_blocks.*.resnets.*.*.*", "up_blocks.*.attentions.*.*.*"])


def test_fresh_tensors_start_from_random_values(tiny_sdxl, plain):
    distiller = sdxl(tiny_sdxl, student=dict(keep=SHALLOW, fresh=["conv_out.weight"]), losses=TASK)
    assert not distiller.student.conv_out.weight.equal(plain.unet.conv_out.weight)
    same(distiller.student.conv_out.bias, plain.unet.conv_out.bias)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dtype="half"), "model.dtype='half' is unknown; expected one of float32, bfloat16, float16"),
        (dict(feature_pairs=dict(rule="last")), "feature_pairs.rule 'last' is unknown"),
        (dict(student=dict(keep={"middle": []})), r"student.keep\['middle'\] matches no list of layers"),
    ],
)
def test_options_that_do_not_exist_are_refused(tiny_sdxl, options, message):
    with pytest.raises(InputError, match=message):
        sdxl(tiny_sdxl, **options)
