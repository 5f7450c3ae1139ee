"""What cannot be loaded is refused in one line that names the key and its value."""

import contextlib
import json
import shutil
import socket
import threading

import diffusers
import pytest
import torch
from huggingface_hub import constants

from diffdistill.errors import InputError
from diffdistill.families import StableDiffusion, StableDiffusionXL
from diffdistill.families.checkpoint import PACKAGED, Checkpoint
from diffdistill.students.weights import make_student

KEY = "model.teacher.checkpoint"
FILES = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"tokenizer{n}/{file}.json" for n in ("", "_2") for file in ("tokenizer", "tokenizer_config")),
    *(f"{model}/config.json" for model in ("unet", "vae", "text_encoder", "text_encoder_2")),
    *(f"text_encoder{n}/model.safetensors" for n in ("", "_2")),
    *(f"{model}/diffusion_pytorch_model.safetensors" for model in ("unet", "vae")),
]


@pytest.fixture
def copy(thin_sdxl, tmp_path):
    """A copy of the SDXL pipeline to do harm to."""
    return shutil.copytree(thin_sdxl, tmp_path / "copy")


def load(folder):
    family = StableDiffusionXL(checkpoint=str(folder))
    family.load_denoiser()
    family.load(torch.float32)


def refusal(of, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        of(*args, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_the_list_of_files_is_complete(thin_sdxl):
    assert {str(path.relative_to(thin_sdxl)) for path in thin_sdxl.rglob("*") if path.is_file()} == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_found_before_anything_is_loaded(copy, file):
    (copy / file).unlink()
    message = refusal(StableDiffusionXL, checkpoint=str(copy))
    assert message.startswith(f"{KEY}={copy}: ")
    assert file.split("/")[0] in message


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_cut_short_is_refused(copy, file):
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    assert refusal(load, copy).startswith(f"{KEY}={copy}: ")


@pytest.mark.parametrize("model", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_weights_that_were_cut_short_are_found_before_anything_is_loaded(copy, model):
    weights = next((copy / model).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4])
    expected = f"{KEY}={copy}: {model}/{weights.name} is cut short or damaged; get it again"
    assert refusal(StableDiffusionXL, checkpoint=str(copy)) == expected


def test_a_missing_shard_is_found_before_anything_is_loaded(thin_sdxl, copy):
    unet = diffusers.UNet2DConditionModel.from_pretrained(thin_sdxl / "unet")
    shutil.rmtree(copy / "unet")
    unet.save_pretrained(copy / "unet", max_shard_size="300KB")
    load(copy)
    shard = sorted((copy / "unet").glob("*-of-*.safetensors"))[1]
    shard.unlink()
    assert (
        refusal(StableDiffusionXL, checkpoint=str(copy)) == f"{KEY}={copy}: unet/{shard.name} is missing; download it again"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "no such folder"),
        ("./no_such_folder", "no such folder"),
        ("no_such_folder", "no such folder"),
        ("no/such/folder", "no such folder"),
        ("someone/sdxl", "no such folder, and model_index.json cannot be fetched from the hub"),
        ("diffdistill::sdxl_shape", "no such pipeline in the package; it has "),
    ],
)
def test_a_name_that_leads_nowhere(name, message):
    assert refusal(StableDiffusionXL, checkpoint=name).startswith(f"{KEY}={name}: {message}")


def test_the_hubs_absence_comes_with_a_way_around_it():
    message = refusal(StableDiffusionXL, checkpoint="someone/sdxl")
    assert "`hf download someone/sdxl --local-dir FOLDER`, then set model.teacher.checkpoint=FOLDER" in message


def test_packaged_pipelines_are_found_by_their_name(thin_sdxl, monkeypatch):
    monkeypatch.setattr("diffdistill.families.checkpoint.ASSETS", thin_sdxl.parent)
    found = Checkpoint(PACKAGED + thin_sdxl.name, KEY)
    assert found.read_json("model_index.json")["_class_name"] == "StableDiffusionXLPipeline"
    with pytest.raises(InputError, match=f"it has .*{PACKAGED}{thin_sdxl.name}"):
        Checkpoint(PACKAGED + "none", KEY)


def test_a_folder_that_is_no_pipeline(thin_sdxl):
    message = refusal(StableDiffusionXL, checkpoint=str(thin_sdxl / "unet"))
    assert message == f"{KEY}={thin_sdxl / 'unet'}: the folder has no model_index.json; is it a whole diffusers pipeline?"


def test_a_pipeline_of_another_family(tiny_sd, thin_sdxl):
    message = refusal(StableDiffusionXL, checkpoint=str(tiny_sd))
    assert message.startswith(f"{KEY}={tiny_sd}: a StableDiffusionPipeline without text_encoder_2; model.teacher.type")
    message = refusal(StableDiffusion, checkpoint=str(thin_sdxl))
    assert message.startswith(
        f"{KEY}={thin_sdxl}: a StableDiffusionXLPipeline with text_encoder_2, tokenizer_2; model.teacher"
    )
    assert message.endswith("model.teacher.type StableDiffusion needs a StableDiffusionPipeline")


def test_a_vae_that_is_none(thin_sdxl):
    assert refusal(StableDiffusionXL, str(thin_sdxl), vae="/no/vae") == "model.teacher.vae=/no/vae: no such folder"
    family = StableDiffusionXL(str(thin_sdxl), vae=str(thin_sdxl / "unet"))
    assert refusal(family.load, torch.float32).startswith(f"model.teacher.vae={thin_sdxl / 'unet'}: cannot be loaded")


@pytest.mark.parametrize(("weights", "config", "problem"), [("thin", "whole", "missing"), ("whole", "thin", "left over")])
def test_weights_of_another_config_are_refused(copy, weights, config, problem):
    """A student saved beside its teacher's config.json: diffusers loads it, and what is missing stays random."""
    whole = diffusers.UNet2DConditionModel.from_pretrained(copy / "unet")
    models = {"whole": whole, "thin": make_student(whole, {"mid_block.attentions": [], "mid_block.resnets": [0]})[0]}
    models[weights].save_pretrained(copy / "unet")
    models[config].save_config(copy / "unet")
    message = refusal(load, copy)
    assert message.startswith(f"{KEY}={copy}: the weights of the UNet2DConditionModel in unet/ are not those of its config")
    assert f"tensors are {problem}, such as mid_block.attentions.0.norm.bias" in message


def test_a_schedule_that_cannot_be_trained_with_is_refused(copy):
    file = copy / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "sample"}))
    assert "prediction_type 'sample' is not supported" in refusal(StableDiffusionXL, checkpoint=str(copy))


@pytest.fixture
def silent_hub(monkeypatch):
    """A hub that accepts connections and never answers; returns those it has accepted."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        accepted = []

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    accepted.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/{{repo_id}}/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("diffdistill.families.checkpoint.PATIENCE", 0.5)
        yield accepted
        server.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


def test_a_hub_that_never_answers_is_asked_once(silent_hub, caplog):
    for _ in range(2):
        message = refusal(StableDiffusionXL, checkpoint="someone/sdxl")
        assert "model_index.json cannot be fetched from the hub (no connection?)" in message
    assert len(silent_hub) == 1
    assert "the Hugging Face Hub does not answer (ReadTimeout); going on with what is cached" in caplog.text
