"""Fine-tuning: a step with no teacher in memory, and what of the pipeline is trained, frozen and copied."""

import copy
import gc

import diffusers
import pytest
import torch
import torch.nn.functional as F
from peft_kinds import shake
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.models.distiller import Distiller
from diffdistill.models.finetuner import FineTuner
from diffdistill.models.saved import load_trained
from diffdistill.students.weights import make_student

TASK = dict(task=dict(type="TaskLoss"))
LORA = dict(type="LoraConfig", r=4, lora_alpha=8, target_modules=["attn2.to_q", "attn2.to_v"])
TEXT_LORA = dict(type="LoraConfig", r=4, target_modules=["q_proj", "v_proj"])
SAMPLING = dict(num_inference_steps=2, guidance_scale=3.0)


def sd(folder, **options):
    options = dict(losses=TASK, sampling=SAMPLING) | options
    return FineTuner(base=dict(type="StableDiffusion", checkpoint=str(folder)), **options)


def distiller(folder, adapter=LORA, keep=None, **options):
    losses = TASK | dict(output=dict(type="OutputKD"), feature=dict(type="FeatureKD"))
    options = dict(losses=losses, sampling=SAMPLING) | options
    teacher = dict(type="StableDiffusion", checkpoint=str(folder))
    return Distiller(teacher=teacher, student=dict(keep=keep or {}, adapter=adapter), **options)


@pytest.fixture
def batch():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return dict(pixel_values=pictures, caption=["a red circle", ""])


def losses(model, batch, seed=0):
    torch.manual_seed(seed)
    return model(**batch, mode="loss")


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


def text_layers(name: str) -> bool:
    return name.startswith("trained.text_encoder.")


# Whole models


def test_a_step_is_a_bare_diffusers_step(tiny_sd, batch):
    model = sd(tiny_sd)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd)
    scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    torch.manual_seed(0)
    with torch.no_grad():
        latents = pipe.vae.encode(batch["pixel_values"]).latent_dist.sample() * pipe.vae.config.scaling_factor
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (2,))
        prompts = pipe.encode_prompt(batch["caption"], "cpu", 1, False)[0]
        prediction = pipe.unet(scheduler.add_noise(latents, noise, timesteps), timesteps, prompts).sample
    terms = losses(model, batch)
    assert terms.keys() == {"loss_task"}
    torch.testing.assert_close(terms["loss_task"].detach(), F.mse_loss(prediction, noise), rtol=1e-4, atol=1e-5)
    assert model.teacher is None
    assert model.state_dict().keys() == {f"trained.unet.{name}" for name in pipe.unet.state_dict()}
    assert not {id(p) for p in model.parameters()} & {id(p) for part in model.frozen.models() for p in part.parameters()}


def test_text_encoders_are_trained_on_request(tiny_sd, batch):
    terms = []
    for whole in (False, True):
        model = sd(tiny_sd, finetune_text_encoder=whole, dtype="bfloat16").train()
        terms.append(losses(model, batch)["loss_task"])
        terms[-1].backward()
        encoder = model.frozen.pipeline.text_encoder
        moved = [name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        assert bool(moved) == whole == any(map(text_layers, model.state_dict()))
        assert encoder.training == whole
        assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32 if whole else torch.bfloat16}
    torch.testing.assert_close(*terms, rtol=0.02, atol=0.01)


def test_a_distilled_denoiser_is_a_base(tiny_sd, tmp_path):
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny_sd / "unet")
    student, _ = make_student(unet, {"mid_block.attentions": [], "mid_block.resnets": [0]})
    student.save_pretrained(tmp_path / "unet")
    base = dict(type="StableDiffusion", checkpoint=str(tiny_sd), denoiser=str(tmp_path / "unet"))
    same(FineTuner(base=base, losses=TASK).student.state_dict(), student.state_dict())
    # A run leaves the student's scheduler beside it: what it predicts is not guessed.
    diffusers.DDIMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    with pytest.raises(InputError, match=r"unet predicts v_prediction, .*; set model\.base\.prediction_type=v_prediction"):
        FineTuner(base=base, losses=TASK)
    told = FineTuner(base=base | dict(prediction_type="v_prediction"), losses=TASK)
    assert told.noise_schedule.prediction_type == "v_prediction"


def test_a_student_goes_on_predicting_what_its_checkpoint_does(tiny_sd, tmp_path):
    """Unless the config says what it is to predict."""
    diffusers.UNet2DConditionModel.from_pretrained(tiny_sd / "unet").save_pretrained(tmp_path / "unet")
    diffusers.DDIMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    teacher = dict(type="StableDiffusion", checkpoint=str(tiny_sd))

    def model(**student):
        return Distiller(teacher=teacher, student=student, losses=TASK)

    own = dict(checkpoint=str(tmp_path / "unet"))
    wanted = r"=.*unet predicts v_prediction, .* predicts epsilon; set model\.student\.prediction_type=v_prediction"
    with pytest.raises(InputError, match=r"model\.student\.checkpoint" + wanted):
        model(**own)
    assert model(prediction_type="v_prediction", **own).noise_schedule.prediction_type == "v_prediction"
    assert model(prediction_type="epsilon", **own).noise_schedule.prediction_type == "epsilon"
    load_trained(model(prediction_type="v_prediction"), tmp_path)
    with pytest.raises(InputError, match="--checkpoint" + wanted):
        load_trained(model(), tmp_path)


# Adapters


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_adapters_are_trained_saved_and_copied(tiny_sd, batch, dtype):
    model = sd(tiny_sd, adapter=LORA, text_encoder_adapter=TEXT_LORA, dtype=dtype).train()
    names = set(model.state_dict())
    assert all(".lora_" in name for name in names)
    assert {name.split(".")[1] for name in names} == {"unet", "text_encoder"}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    of_base = {p.dtype for name, p in model.student.named_parameters() if "lora_" not in name}
    assert of_base == {getattr(torch, dtype)}
    losses(model, batch)["loss_task"].backward()
    assert all(p.grad is not None for p in model.parameters())
    frozen = [p for part in model.frozen.models() for name, p in part.named_parameters() if "lora_" not in name]
    assert not any(p.requires_grad or p.grad is not None for p in frozen)

    def parameters() -> int:
        gc.collect()
        return sum(type(thing) is nn.Parameter for thing in gc.get_objects())

    before = parameters()
    average = copy.deepcopy(model)
    assert parameters() - before == len(names)
    assert average.student is model.student


def test_weights_that_are_loaded_or_swapped_reach_the_model_that_runs(tiny_sd, batch):
    """As a resume and EMAHook do."""
    model = sd(tiny_sd, adapter=LORA).to("cpu")
    before = losses(model, batch)["loss_task"]
    model.load_state_dict({name: torch.randn_like(p) for name, p in model.state_dict().items()})
    loaded = losses(model, batch)["loss_task"]
    assert loaded != before
    for parameter in model.parameters():
        parameter.data = 2 * torch.randn_like(parameter)
    assert losses(model, batch)["loss_task"] != loaded
    mine = {id(parameter) for parameter in model.parameters()}
    assert mine == {id(parameter) for parameter in model.student.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("make", [sd, distiller])
def test_recomputation_changes_no_gradient(tiny_sd, batch, make):
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = make(tiny_sd, adapter=LORA, gradient_checkpointing=checkpointing)
        shake(model.student)
        calls.append(0)

        def count(*_):
            calls[-1] += 1

        model.train().student.up_blocks[1].resnets[0].register_forward_pre_hook(count)
        sum(losses(model, batch).values()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert calls[1] == calls[0] + 1
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_dropout_is_on_in_training_and_off_in_sampling(tiny_sd):
    model = sd(tiny_sd, adapter=LORA | dict(lora_dropout=0.5)).train()
    layer = model.student.mid_block.attentions[0].transformer_blocks[0].attn2.to_q
    dropout = layer.lora_dropout["default"]
    assert dropout.training
    assert not layer.base_layer.training
    seen = []
    dropout.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    model.sample(["a dog"], [0])
    assert seen
    assert not any(seen)
    assert dropout.training
    model.eval()
    assert not dropout.training


# Distilling an adapter


def test_with_its_adapter_off_the_student_is_the_teacher(tiny_sd, batch):
    model = distiller(tiny_sd)
    assert model.teacher is model.student
    untouched = losses(model, batch)
    assert untouched["loss_output"] < 1e-10
    shake(model.student)
    terms, steps = losses(model, batch), []
    two = distiller(tiny_sd, adapter=None)
    torch.manual_seed(0)
    steps = [model.method(model, *model.encode(batch))]
    torch.manual_seed(0)
    steps += [two.method(two, *two.encode(batch))]
    same(*(step.teacher_prediction for step in steps))
    for pair in steps[0].features:
        same(*(step.features[pair][1] for step in steps))
    assert terms["loss_output"] > 1e-6
    assert terms["loss_feature"] > untouched["loss_feature"]
    pictures = [each.sample(["a dog"], [1], teacher=True) for each in (model, two)]
    assert (pictures[0] == pictures[1]).all()
    assert (model.sample(["a dog"], [1]) != pictures[0]).any()


def test_a_cut_student_with_an_adapter_has_a_teacher_beside_it(tiny_sd, batch):
    model = distiller(tiny_sd, keep={"mid_block.attentions": [], "mid_block.resnets": [0]})
    assert model.teacher is not model.student
    assert all(".lora_" in name for name in model.state_dict())
    assert len(model.frozen.models()) == 4
    model.to("meta")
    assert {tensor.device.type for part in model.frozen.models() for tensor in part.parameters()} == {"meta"}


# What cannot be trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(base=dict(checkpoint="/nowhere")), "model.base.checkpoint=/nowhere: no such folder"),
        (dict(base=dict(type="StableDiffusionXL")), "model.base.type StableDiffusionXL needs a StableDiffusionXLPipeline"),
        (dict(base=dict(denoiser="/nowhere")), "model.base.denoiser=/nowhere"),
        (dict(losses=dict(output=dict(type="OutputKD"))), "model.losses.output: OutputKD compares with a teacher"),
        (dict(method=dict(type="LatentConsistency", guidance_scale=3.0)), "model.method: LatentConsistency asks a teacher"),
        (
            dict(adapter=LORA | dict(target_modules=["to_w"])),
            "model.adapter.target_modules: 'to_w' matches no module",
        ),
        (dict(adapter=LORA | dict(r=0)), "model.adapter (LoraConfig): "),
        (
            dict(text_encoder_adapter=dict(text_encoder_2=TEXT_LORA)),
            "model.text_encoder_adapter.text_encoder_2: a StableDiffusion has no text encoder of that name; it has text_e",
        ),
        (
            dict(text_encoder_adapter=dict(text_encoder=TEXT_LORA | dict(target_modules=["to_q"]))),
            "model.text_encoder_adapter.text_encoder.target_modules: 'to_q' matches no module of the CLIPText",
        ),
        (dict(text_encoder_adapter=TEXT_LORA, finetune_text_encoder=True), "model.finetune_text_encoder=True"),
    ],
)
def test_a_mistake_is_found_before_anything_is_loaded(tiny_sd, options, message):
    base = dict(type="StableDiffusion", checkpoint=str(tiny_sd)) | options.pop("base", {})
    with pytest.raises(InputError) as raised:
        check_model(dict(type="FineTuner", base=base, losses=TASK) | options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(fresh=["conv_out.*"]), "model.student.fresh=['conv_out.*'] would stay untrained"),
        (dict(guidance_embedding=256), "model.student.guidance_embedding=256 would stay untrained"),
        (dict(adapter=LORA | dict(target_modules=["to_w"])), "model.student.adapter.target_modules: 'to_w'"),
    ],
)
def test_a_student_with_an_adapter_is_otherwise_frozen(tiny_sd, options, message):
    teacher = dict(type="StableDiffusion", checkpoint=str(tiny_sd))
    with pytest.raises(InputError) as raised:
        check_model(dict(type="Distiller", teacher=teacher, student=dict(adapter=LORA) | options, losses=TASK))
    assert message in str(raised.value)
