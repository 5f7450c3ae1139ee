"""A model is loaded with all its weights, whatever they are called, or not at all."""

import functools
import shutil
from pathlib import Path

import diffusers
import pytest
import runs
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from diffdistill.errors import InputError
from diffdistill.families import StableDiffusion, StableDiffusionXL
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.identity import text_identity, vae_identity
from diffdistill.families.loading import is_finite, load_pipeline
from diffdistill.families.saving import published_name
from diffdistill.models.finetuner import FineTuner
from diffdistill.models.saved import load_trained, save_models, trained_whole

KEY = "model.teacher.checkpoint"
DROPPED = [
    ("vae", "AutoencoderKL", "decoder.conv_out.bias"),
    ("text_encoder", "CLIPTextModel", "final_layer_norm.weight"),
    ("text_encoder_2", "CLIPTextModelWithProjection", "text_projection.weight"),
]


@pytest.fixture
def copy(thin_sdxl, tmp_path):
    return shutil.copytree(thin_sdxl, tmp_path / "copy")


def rewrite(folder, change) -> None:
    """Write what `change` makes of the tensors, name -> tensor, in `folder`."""
    (file,) = folder.glob("*.safetensors")
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(tensors), file, {"format": "pt"})


def refusal(of, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        of(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def models(family) -> dict:
    """Component -> its tensors, of all that a family loads beside the denoiser."""
    pipeline = family.load(torch.float32)
    return {name: dict(getattr(pipeline, name).state_dict()) for name in family.models}


def without(dropped):
    """What leaves out the one tensor whose name ends so; older versions of transformers write a prefix before it."""

    def change(tensors):
        kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(dropped)}
        assert len(kept) == len(tensors) - 1
        return kept

    return change


@pytest.mark.parametrize(("part", "kind", "dropped"), DROPPED)
def test_missing_tensors_are_refused(part, kind, dropped, copy, capfd):
    """transformers and diffusers start them from random values, others at every load."""
    rewrite(copy / part, without(dropped))
    message = refusal(StableDiffusionXL(str(copy)).load, torch.float32)
    reason = f"the weights of the {kind} in {part}/ are not those of its config.json: 1 tensors are missing, such as"
    assert message.startswith(f"{KEY}={copy}: {reason} ")
    assert message.endswith(dropped)
    assert "MISSING" not in "".join(capfd.readouterr())  # the libraries' own table


def test_missing_tensors_of_a_vae_of_its_own_are_refused(thin_sdxl, copy):
    rewrite(copy / "vae", without("decoder.conv_out.bias"))
    message = refusal(StableDiffusionXL(str(thin_sdxl), vae=str(copy / "vae")).load, torch.float32)
    assert message.startswith(f"model.teacher.vae={copy / 'vae'}: the weights of the AutoencoderKL are not those of its")


def test_missing_tensors_are_refused_where_a_pipeline_is_sampled(copy, tmp_path):
    rewrite(copy / "text_encoder", without("final_layer_norm.weight"))
    ended = runs.tool("sample", copy, "--prompt", "a red circle", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "the weights of the CLIPTextModel in text_encoder/ are not those of its config.json" in ended.err


def test_missing_tensors_of_a_fine_tuned_text_encoder_are_refused(tiny_sd, tmp_path):
    model = FineTuner(
        base=dict(type="StableDiffusion", checkpoint=str(tiny_sd)),
        losses=dict(task=dict(type="TaskLoss")),
        finetune_text_encoder=True,
    )
    save_models(trained_whole(model), tmp_path)
    load_trained(model, tmp_path)
    rewrite(tmp_path / "text_encoder", without("text_model.final_layer_norm.weight"))
    message = refusal(load_trained, model, tmp_path)
    assert message.startswith(f"--checkpoint={tmp_path / 'text_encoder'}: the weights of the CLIPTextModel are not those of")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite_are_refused(part, value, copy):
    def spoil(tensors):
        name = min(tensors)
        tensors[name].view(-1)[-1] = value
        return tensors

    rewrite(copy / part, spoil)
    family = StableDiffusionXL(str(copy))
    message = refusal(family.load_denoiser if part == "unet" else family.load, *([] if part == "unet" else [torch.float32]))
    assert f"in {part}/ are damaged: 1 tensors hold NaN or infinity, such as " in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_finite_tensors(dtype):
    largest = torch.iinfo(dtype).max if dtype == torch.int64 else torch.finfo(dtype).max
    assert is_finite(torch.full((1000,), largest, dtype=dtype))
    assert is_finite(torch.empty(0, dtype=dtype))


# Checkpoints as they are published


def test_published_and_flat_names_are_the_same_encoder(thin_sdxl, copy):
    expected = models(StableDiffusionXL(str(thin_sdxl)))
    for name in ("text_encoder", "text_encoder_2"):
        rewrite(copy / name, lambda tensors: {published_name(key): tensor for key, tensor in tensors.items()})
    torch.testing.assert_close(models(StableDiffusionXL(str(copy))), expected, rtol=0, atol=0)


def test_position_ids_may_be_left_over(thin_sdxl, copy):
    """Checkpoints of SD 1.x have them; today they are computed."""
    ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    rewrite(copy / "text_encoder", lambda tensors: {published_name(key): tensor for key, tensor in tensors.items()} | ids)
    expected = models(StableDiffusionXL(str(thin_sdxl)))
    torch.testing.assert_close(models(StableDiffusionXL(str(copy))), expected, rtol=0, atol=0)


def test_a_vae_may_have_the_old_names_of_attention(thin_sdxl, copy):
    """That of SD 1.x on the hub has them; diffusers renames them."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def old_name(name: str) -> str:
        return functools.reduce(lambda text, pair: text.replace(*pair), old.items(), name)

    rewrite(copy / "vae", lambda tensors: {old_name(name): tensor for name, tensor in tensors.items()})
    (file,) = (copy / "vae").glob("*.safetensors")
    assert sum(".query." in name or ".proj_attn." in name for name in load_file(file)) == 8
    expected = models(StableDiffusionXL(str(thin_sdxl)))
    torch.testing.assert_close(models(StableDiffusionXL(str(copy))), expected, rtol=0, atol=0)


def test_pickled_weights_are_loaded_where_they_are_allowed(thin_sdxl, copy, monkeypatch):
    monkeypatch.setenv("DIFFDISTILL_ALLOW_PICKLES", "1")
    for name, file in (("text_encoder", "pytorch_model.bin"), ("vae", "diffusion_pytorch_model.bin")):
        (weights,) = (copy / name).glob("*.safetensors")
        torch.save(load_file(weights), copy / name / file)
        weights.unlink()
    expected = models(StableDiffusionXL(str(thin_sdxl)))
    torch.testing.assert_close(models(StableDiffusionXL(str(copy))), expected, rtol=0, atol=0)


def test_a_variant_that_not_all_models_have(tiny_sd, tmp_path):
    """As in a pipeline of diffusers, the others are taken from their only files."""
    plain = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd)
    plain.save_pretrained(tmp_path, variant="fp16")
    plain.vae.save_pretrained(tmp_path / "vae")
    for file in (tmp_path / "vae").glob("*.fp16.*"):
        file.unlink()
    loaded, expected = models(StableDiffusion(str(tmp_path), variant="fp16")), models(StableDiffusion(str(tiny_sd)))
    torch.testing.assert_close(loaded, expected, rtol=0, atol=0)


@pytest.fixture
def hub_name(thin_sdxl):
    """The name of a hub's repository that was downloaded before; the hub itself is out of reach."""
    folder = Path(constants.HF_HUB_CACHE, "models--me--tiny-sdxl")
    shutil.copytree(thin_sdxl, folder / "snapshots" / ("0" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    yield "me/tiny-sdxl"
    shutil.rmtree(folder)


def test_a_pipeline_of_the_hub_is_loaded_from_its_cache(hub_name, thin_sdxl):
    loaded, expected = models(StableDiffusionXL(hub_name)), models(StableDiffusionXL(str(thin_sdxl)))
    torch.testing.assert_close(loaded, expected, rtol=0, atol=0)
    pipeline, plain = load_pipeline(Checkpoint(hub_name, KEY)), load_pipeline(Checkpoint(str(thin_sdxl), KEY))
    torch.testing.assert_close(pipeline.unet.state_dict(), plain.unet.state_dict(), rtol=0, atol=0)


def test_encoders_of_the_hub_have_the_identity_of_those_in_a_folder(hub_name, thin_sdxl, tiny_sd):
    """But for another VAE, which is another one."""
    hub, folder = StableDiffusionXL(hub_name), StableDiffusionXL(str(thin_sdxl))
    for identity in (vae_identity, text_identity):
        assert identity(hub).files
        assert identity(hub).digest() == identity(folder).digest()
    other = StableDiffusionXL(str(thin_sdxl), vae=str(tiny_sd / "vae"))
    assert vae_identity(other).digest() != vae_identity(folder).digest()
    assert text_identity(other).digest() == text_identity(folder).digest()
