"""LoRAs of a teacher on its student: end to end, with diffusers' own loading on both sides."""

import functools
import json
import re

import lora_files
import pytest
import runs
import tiny
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from lora_files import adapted_layers, write_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.export.lora_file import read_lora, scaled
from diffdistill.export.lora_transfer import counterparts, delta_norm, transfer_lora
from diffdistill.families import StableDiffusion
from diffdistill.students.weights import make_student

SD, SDXL = StableDiffusionPipeline, StableDiffusionXLPipeline
FILE = "pytorch_lora_weights.safetensors"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
BK_BASE, BK_TINY = (f"bk_sdm_{size}_distill_from_sd_14_laion_212k" for size in ("base", "tiny"))
SSD_1B = "ssd_1b_distill_from_sdxl_pokemon_blip"


@pytest.fixture
def folder_of(tiny_sd, tiny_sdxl):
    return lambda pipeline: {SD: tiny_sd, SDXL: tiny_sdxl}[type(pipeline)]


@pytest.fixture(scope="module")
def make(tiny_sd, tiny_sdxl):
    """Teacher's pipeline, its student's, and the layer map, made once; a test leaves both as they were."""

    @functools.cache
    def load(pipeline_class):
        options = dict(add_watermarker=False) if pipeline_class is SDXL else dict(safety_checker=None)
        return pipeline_class.from_pretrained({SD: tiny_sd, SDXL: tiny_sdxl}[pipeline_class], **options)

    @functools.cache
    def made(config, pipeline_class):
        teacher = load(pipeline_class)
        unet, layers = make_student(teacher.unet, load_config(config).model.student.keep)
        parts = {**teacher.components, "unet": unet.eval()}
        options = dict(add_watermarker=False) if pipeline_class is SDXL else dict(requires_safety_checker=False)
        return teacher, pipeline_class(**parts, **options), layers

    return made


def transfer(lora, config, folder, out, *args) -> runs.Ended:
    changes = runs.options(model__teacher__checkpoint=folder, model__teacher__vae=None)
    return runs.tool("transfer_lora", lora, config, out, *args, *changes)


def weights_of(text_encoder: nn.Module) -> dict:
    return adapted_layers(text_encoder, "q_proj", "out_proj", "fc1")


def copy_weights(model: nn.Module) -> dict:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def fused_models(pipeline, lora, *models) -> list[dict]:
    """The change of every tensor of `models` that diffusers makes of `lora`; the pipeline is as before afterwards."""
    models = [getattr(pipeline, model) for model in models]
    before = [copy_weights(model) for model in models]
    pipeline.load_lora_weights(lora)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()  # leaves the fused weights
    after = [copy_weights(model) for model in models]
    for model, weights in zip(models, before, strict=True):
        model.load_state_dict(weights)
    return [{name: new[name] - old[name] for name in old | new} for old, new in zip(before, after, strict=True)]


def fused(pipeline, lora) -> dict:
    """The change of every tensor of the U-Net."""
    return fused_models(pipeline, lora, "unet")[0]


def assert_same_change(student: dict, teacher: dict, layers) -> int:
    """Every tensor of the student changes as the teacher's that it stands for; gives how many changed."""
    for name, change in student.items():
        expected = teacher[layers.to_teacher(name)]
        assert (change - expected).norm() <= 1e-5 * expected.norm(), name
    return sum(bool(change.any()) for change in student.values())


def save_lora(pipeline, folder, targets, **options) -> None:
    """Write a LoRA with random weights for the U-Net of `pipeline`, as the training scripts of diffusers do."""
    unet = pipeline.unet
    torch.manual_seed(2)
    options = dict(r=4, lora_alpha=3, init_lora_weights=False) | options
    unet.add_adapter(LoraConfig(target_modules=targets, **options))
    for name, parameter in unet.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            nn.init.normal_(parameter)
    pipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
    )
    pipeline.unload_lora_weights()


@pytest.mark.parametrize(("config", "pipeline_class", "every"), [(BK_BASE, SD, 1), (BK_TINY, SD, 1), (SSD_1B, SDXL, 5)])
def test_every_layer_changes_as_its_teachers(config, pipeline_class, every, make, folder_of, tmp_path):
    teacher, student, layers = make(config, pipeline_class)
    targets = list(adapted_layers(teacher.unet, *ATTENTION))[::every]
    save_lora(teacher, tmp_path / "lora", targets)
    assert transfer(tmp_path / "lora", config, folder_of(teacher), tmp_path / "out").code == 0
    changed = assert_same_change(fused(student, tmp_path / "out"), fused(teacher, tmp_path / "lora"), layers)
    assert changed == sum(layers.to_teacher(name) in targets for name, _ in student.unet.named_modules()) > 40


def test_linear_layers_and_convolutions_of_other_ranks_and_alphas(make, tiny_sd, tmp_path):
    """BK-Tiny's last down stage has lost its downsampler, which the keep list alone does not say."""
    teacher, student, layers = make(BK_TINY, SD)
    targets = [name for name in adapted_layers(teacher.unet) if "attn" not in name]
    patterns = dict(
        rank_pattern={"ff.net.2": 2, "conv1": 3}, alpha_pattern={"proj_in": 8, "ff.net.2": 5, "^conv_in": 1}, use_rslora=True
    )
    save_lora(teacher, tmp_path / "lora", targets, **patterns)
    figures = tmp_path / "figures.json"
    assert transfer(tmp_path / "lora", BK_TINY, tiny_sd, tmp_path / "out", "--json", figures).code == 0
    changed = assert_same_change(fused(student, tmp_path / "out"), fused(teacher, tmp_path / "lora"), layers)
    read = json.loads(figures.read_text())
    assert read["total"]["layers"] == len(targets)
    assert (
        read["total"]["layers_kept"]
        == changed
        == len(adapted_layers(student.unet)) - sum("attn" in name for name in adapted_layers(student.unet))
    )
    assert "down_blocks.2.downsamplers.0.conv" in read["dropped"]


def test_unloading_restores_the_student(make, tiny_sd, tmp_path):
    teacher, student, _ = make(BK_TINY, SD)
    write_kohya(tmp_path / "lora.safetensors", {"lora_unet_": adapted_layers(teacher.unet, "attn2.to_q")})
    assert transfer(tmp_path / "lora.safetensors", BK_TINY, tiny_sd, tmp_path / "out").code == 0
    before = copy_weights(student.unet)
    student.load_lora_weights(tmp_path / "out")
    assert copy_weights(student.unet).keys() != before.keys()
    student.unload_lora_weights()
    torch.testing.assert_close(copy_weights(student.unet), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "pipeline_class", "name", "every"),
    [(BK_BASE, SD, lora_files.diffusers_name, 3), (SSD_1B, SDXL, lora_files.original_name, 5)],
)
def test_kohya_files_keep_the_scale_of_every_layer(config, pipeline_class, name, every, make, folder_of, tmp_path):
    """By the formula, as diffusers 0.42 does not read all alphas of such a file where they differ."""
    file = tmp_path / "lora.safetensors"
    teacher, student, layers = make(config, pipeline_class)
    unet = adapted_layers(teacher.unet)
    encoders = {"lora_te1_" if pipeline_class is SDXL else "lora_te_": "text_encoder"}
    if pipeline_class is SDXL:
        encoders["lora_te2_"] = "text_encoder_2"
    prefixes = {"lora_unet_": {layer: unet[layer] for layer in list(unet)[::every]}}
    for prefix, model in encoders.items():
        weights = weights_of(getattr(student, model))
        # transformers 5 has dropped this part of the first encoder's names
        prefixes[prefix] = {f"text_model.{layer.removeprefix('text_model.')}": weight for layer, weight in weights.items()}
    deltas = write_kohya(file, prefixes, name)
    assert transfer(file, config, folder_of(teacher), tmp_path / "out").code == 0
    unet_change, *encoder_changes = fused_models(student, tmp_path / "out", "unet", *encoders.values())
    changes = {f"lora_unet_{name}": change for name, change in unet_change.items()}
    changed = 0
    for tensor, change in changes.items():
        origin = "lora_unet_" + layers.to_teacher(tensor.removeprefix("lora_unet_")).removesuffix(".weight")
        expected = deltas.get(origin, torch.zeros(())) if tensor.endswith(".weight") else torch.zeros(())
        assert (change - expected).norm() <= 1e-5 * expected.norm(), tensor
        changed += origin in deltas and tensor.endswith(".weight")
    assert changed > 20
    for (prefix, model), change in zip(encoders.items(), encoder_changes, strict=True):
        for layer in weights_of(getattr(student, model)):
            expected = deltas[f"{prefix}text_model.{layer.removeprefix('text_model.')}"]
            assert (change[f"{layer}.weight"] - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("form", ["kohya", "processors", "older", "bin", "alpha"])
def test_other_forms_change_the_student_as_diffusers_changes_the_teacher(form, make, tiny_sd, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFDISTILL_ALLOW_PICKLES", "1" if form == "bin" else "0")
    teacher, student, names = make(BK_BASE, SD)
    layers = adapted_layers(teacher.unet, "attn1.to_q", "attn2.to_k")
    file = tmp_path / ("lora.bin" if form == "bin" else "lora.safetensors")
    deltas = write_kohya(tmp_path / "kohya.safetensors", {"lora_unet_": layers}, alphas=[3.0], ranks=[4])
    tensors = load_file(tmp_path / "kohya.safetensors")
    renamed = {}
    for layer in layers:
        owner, last = layer.rsplit(".", 1)
        key = f"lora_unet_{lora_files.diffusers_name(layer)}"
        down, up = tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"]
        name = f"{owner}.processor.{last}_lora" if form == "processors" else f"unet.{layer}.lora"
        renamed |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
        if form == "alpha":
            renamed[f"unet.{layer}.alpha"] = torch.tensor(3.0)
    (torch.save if form == "bin" else save_file)(tensors if form == "kohya" else renamed, file)
    scale = 1 if form in ("kohya", "alpha") else 4 / 3
    ended = transfer(file, BK_BASE, tiny_sd, tmp_path / "out")
    assert ended.code == 0, ended
    change = fused(student, tmp_path / "out")
    expected = {name: torch.zeros_like(tensor) for name, tensor in teacher.unet.state_dict().items()}
    expected |= {f"{layer}.weight": scale * deltas[f"lora_unet_{layer}"] for layer in layers}
    assert assert_same_change(change, expected, names) == 20  # ten transformers
    if form in ("kohya", "older", "bin"):
        assert_same_change(change, fused(teacher, file), names)


def test_dora_moves_with_its_magnitudes(make, tiny_sd, tmp_path):
    teacher, student, layers = make(BK_TINY, SD)
    targets = list(adapted_layers(teacher.unet, "attn1.to_v", "conv2"))
    save_lora(teacher, tmp_path / "lora", targets, use_dora=True)
    magnitudes = {name: tensor for name, tensor in load_file(tmp_path / "lora" / FILE).items() if "magnitude" in name}
    save_file({**load_file(tmp_path / "lora" / FILE), **{name: 2 * m for name, m in magnitudes.items()}}, tmp_path / "dora")
    (tmp_path / "dora").rename(tmp_path / "dora.safetensors")
    assert transfer(tmp_path / "dora.safetensors", BK_TINY, tiny_sd, tmp_path / "out").code == 0
    change, expected = fused(student, tmp_path / "out"), fused(teacher, tmp_path / "dora.safetensors")
    assert assert_same_change(change, expected, layers) == sum(
        layers.to_teacher(n) in targets for n in names_of(student.unet)
    )


def names_of(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules()]


def full_config(tmp_path, folder):
    config = tmp_path / "full.py"
    config.write_text(
        f"model = dict(type='Distiller', teacher=dict(type='StableDiffusion', checkpoint={str(folder)!r}),"
        " student=dict(keep={}), losses=dict(task=dict(type='TaskLoss')))"
    )
    return config


@pytest.mark.parametrize(("alpha", "dtype"), [(4, torch.float16), (2, torch.float16), (3, torch.float32)])
def test_a_student_that_keeps_all_gets_the_same_deltas(alpha, dtype, make, tiny_sd, tmp_path):
    """The same bits where the scale is a power of two."""
    teacher, _, _ = make(BK_BASE, SD)
    layers = adapted_layers(teacher.unet, "to_k", "conv1")
    write_kohya(tmp_path / "lora.safetensors", {"lora_unet_": layers}, alphas=[float(alpha)], ranks=[4])
    before = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / "lora.safetensors").items()}
    save_file(before, tmp_path / "lora.safetensors")
    ended = runs.tool("transfer_lora", tmp_path / "lora.safetensors", full_config(tmp_path, tiny_sd), tmp_path / "out")
    assert ended.code == 0, ended
    after = load_file(tmp_path / "out" / FILE)
    assert len(after) == 2 * len(layers)
    for layer in layers:
        key = f"lora_unet_{lora_files.diffusers_name(layer)}"
        first, second = (after[f"unet.{layer}.lora_{name}.weight"] for name in "AB")
        assert first.dtype == second.dtype == (dtype if alpha == 4 else torch.float32)
        down, up = (before[f"{key}.lora_{name}.weight"].double() for name in ("down", "up"))
        tolerance = 1e-6 if alpha == 3 else 0
        torch.testing.assert_close(first.double(), down, rtol=0, atol=0)
        torch.testing.assert_close(second.double(), up * alpha / 4, rtol=tolerance, atol=0)


def test_biases_of_a_lora_are_scaled_with_it():
    parts = {"lora_A.weight": torch.ones(2, 3), "lora_B.weight": torch.ones(5, 2), "lora_B.bias": torch.ones(5)}
    found = scaled(parts, 0.5)
    assert [tensor.flatten()[0].item() for tensor in found.values()] == [1.0, 0.5, 0.5]


def test_figures_are_the_norms_of_what_stays(make, tiny_sdxl, tmp_path):
    """SSD-1B has no attention in its mid block, and ten transformer layers have become four."""
    teacher, _, layers = make(SSD_1B, SDXL)
    unet = adapted_layers(teacher.unet, "attn2.to_k", "conv_in")
    flat = getattr(teacher.text_encoder, "text_model", teacher.text_encoder)  # as transformers has it from 5.6 on
    encoder = {"text_model.encoder.layers.0.mlp.fc1": flat.encoder.layers[0].mlp.fc1.weight}
    file = tmp_path / "lora.safetensors"
    deltas = write_kohya(file, {"lora_unet_": unet, "lora_te1_": encoder})
    ended = transfer(file, SSD_1B, tiny_sdxl, tmp_path / "out", "--json", tmp_path / "figures.json")
    assert ended.code == 0, ended
    figures = json.loads((tmp_path / "figures.json").read_text())
    counts = {stage: (row["layers"], row["layers_kept"]) for stage, row in figures["stages"].items()}
    assert counts == {
        "down_blocks.1": (4, 4),
        "down_blocks.2": (20, 8),
        "mid_block": (10, 0),
        "up_blocks.0": (30, 18),
        "up_blocks.1": (6, 4),
        "outside the stages": (1, 1),
        "text_encoder": (1, 1),
    }
    norms = {name: delta.norm().item() for name, delta in deltas.items()}
    kept = {name: norm for name, norm in norms.items() if layers.to_student(name.removeprefix("lora_unet_"))}
    assert figures["total"]["norm"] == pytest.approx(sum(norms.values()), rel=1e-5)
    assert figures["total"]["norm_kept"] == pytest.approx(sum(kept.values()), rel=1e-5)
    assert {f"lora_unet_{name}" for name in figures["dropped"]} == norms.keys() - kept.keys()
    share = 100 * sum(kept.values()) / sum(norms.values())
    assert re.search(rf"in all +72 +36 +{share:.1f} %", ended.out)
    assert re.search(r"mid_block +10 +0 +0\.0 %", ended.out)


def test_norm_of_a_convolution():
    first, second = torch.randn(3, 5, 3, 3), torch.randn(7, 3, 1, 1)
    expected = lora_files.delta(first, second, 1.0).norm().item()
    assert delta_norm({"lora_A.weight": first, "lora_B.weight": second}) == pytest.approx(expected, rel=1e-5)


def test_a_fresh_layer_stands_for_none_of_the_teachers(make):
    _, student, layers = make(BK_TINY, SD)
    names = ["up_blocks.1.resnets.0.conv1", "up_blocks.1.resnets.0.conv2"]
    weights = student.unet.state_dict()
    assert list(counterparts(names, layers, weights)) == names
    assert counterparts(names, layers, weights, ["up_blocks.0.resnets.*.conv1.*"]) == {
        names[1]: "up_blocks.0.resnets.0.conv2"
    }


def test_the_last_stage_of_a_config_decides(make, tiny_sd, tmp_path):
    teacher, _, _ = make(BK_BASE, SD)
    config = full_config(tmp_path, tiny_sd)
    keep = "{'mid_block.attentions': [], 'mid_block.resnets': []}"
    config.write_text(
        config.read_text().replace("keep={}", f"keep={keep}")
        + "\nwork_dir = 'work_dirs/x'\nstages = [dict(name='one'), dict(name='two')]"
    )
    layers = adapted_layers(teacher.unet, "attn1.to_q")
    write_kohya(tmp_path / "lora.safetensors", {"lora_unet_": layers})
    ended = runs.tool("transfer_lora", tmp_path / "lora.safetensors", config, tmp_path / "out")
    assert ended.code == 0, ended
    assert len(load_file(tmp_path / "out" / FILE)) == 2 * (len(layers) - 1)


def write_checkpoint(file, teacher):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, file)


def write_text(file, teacher):
    file.write_text("no tensors")


def with_tensor(key):
    def write(file, teacher):
        write_kohya(file, {"lora_unet_": adapted_layers(teacher.unet, "to_q")})
        save_file({**load_file(file), key: torch.ones(2, 2)}, file)

    return write


def without_up(file, teacher):
    write_kohya(file, {"lora_unet_": adapted_layers(teacher.unet, "to_q")})
    save_file(
        {name: tensor for name, tensor in load_file(file).items() if "mid_block" not in name or "up" not in name}, file
    )


def of_mid_block(file, teacher):
    layers = adapted_layers(teacher.unet, "attn1.to_q")
    write_kohya(file, {"lora_unet_": {name: weight for name, weight in layers.items() if "mid_block" in name}})


def of_sd(file, teacher):
    write_kohya(file, {"lora_unet_": adapted_layers(tiny.sd_unet(), "attn2.to_k")})


def of_wider_text(file, teacher):
    layers = adapted_layers(teacher.unet, "attn2.to_k")
    write_kohya(file, {"lora_unet_": {name: torch.zeros(len(weight), 48) for name, weight in layers.items()}})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (None, "no such file or folder"),
        (write_text, "no file of tensors, or damaged"),
        (write_checkpoint, "model.diffusion_model.input_blocks.0.0.weight is no tensor of a LoRA"),
        (with_tensor("lora_unet_x.hada_w1_a"), "lora_unet_x.hada_w1_a is no tensor of a LoRA"),
        (with_tensor("lora_unet_x.dora_scale"), "lora_unet_x.dora_scale is no tensor of a LoRA"),
        (with_tensor("lora_unet_x.lora_up.weight"), "diffusers cannot read it: "),
        (without_up, "diffusers cannot read it: 'lora_unet_mid_block"),
        (of_sd, "of its 16 layers of the unet do not fit the teacher {folder}, such as down_blocks.0."),
        (of_wider_text, "(16, 48) and not (16, 64)); it was made for another base"),
        (
            of_mid_block,
            "the student keeps none of its 10 layers, e.g. mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
    ],
)
def test_bad_files_are_one_line(write, message, make, tiny_sdxl, tmp_path):
    file = tmp_path / "lora.safetensors"
    if write:
        write(file, make(SSD_1B, SDXL)[0])
    ended = transfer(file, SSD_1B, tiny_sdxl, tmp_path / "out", "--json", tmp_path / "figures.json")
    assert ended.code == 2
    assert ended.err.startswith(f"error: LORA={file}: ")
    assert message.format(folder=tiny_sdxl) in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "figures.json").exists()


def test_a_lora_of_a_second_text_encoder_is_not_for_sd(make, tiny_sd, tmp_path):
    encoder = {"text_model.encoder.layers.0.mlp.fc1": torch.zeros(8, 8)}
    write_kohya(tmp_path / "lora.safetensors", {"lora_te2_": encoder})
    ended = transfer(tmp_path / "lora.safetensors", BK_BASE, tiny_sd, tmp_path / "out")
    assert ended.code == 2
    assert f"it adapts text_encoder_2, which the teacher {tiny_sd} does not have" in ended.err


def test_a_hub_name_needs_no_download(make, tmp_path):
    teacher, _, _ = make(BK_BASE, SD)
    write_kohya(tmp_path / "lora.safetensors", {"lora_unet_": adapted_layers(teacher.unet, "conv_in")})
    ended = runs.tool("transfer_lora", tmp_path / "lora.safetensors", BK_BASE, tmp_path / "out")
    assert ended.code == 2
    assert "the teacher CompVis/stable-diffusion-v1-4, such as conv_in ((8, 4, 3, 3) and not (320, 4, 3, 3))" in ended.err


def test_out_must_be_empty_and_json_a_file(tiny_sd, tmp_path):
    ended = transfer(tmp_path / "lora.safetensors", BK_BASE, tiny_sd, tiny_sd)
    assert (ended.code, ended.err) == (2, f"error: {tiny_sd} is not empty; name a new folder\n")
    ended = transfer(tmp_path / "lora.safetensors", BK_BASE, tiny_sd, tmp_path / "out", "--json", tmp_path)
    assert (ended.code, ended.err) == (2, f"error: --json={tmp_path}: name a file in a folder that exists\n")


def test_a_folder_names_its_file_by_diffusers_or_has_only_one(make, tmp_path):
    teacher, _, _ = make(BK_BASE, SD)
    folder = tmp_path / "lora"
    folder.mkdir()
    write_kohya(folder / "anime.safetensors", {"lora_unet_": adapted_layers(teacher.unet, "attn1.to_q")})
    assert len(read_lora(folder, StableDiffusion, teacher.unet.config)["unet"]) == 16
    write_kohya(folder / "other.safetensors", {"lora_unet_": adapted_layers(teacher.unet, "attn1.to_q")})
    with pytest.raises(InputError, match=f"the folder has no {FILE}; name the file itself"):
        read_lora(folder, StableDiffusion, teacher.unet.config)
    write_kohya(folder / FILE, {"lora_unet_": adapted_layers(teacher.unet, "conv_in")})
    assert list(read_lora(folder, StableDiffusion, teacher.unet.config)["unet"]) == ["conv_in"]


def test_a_fine_tuning_has_no_student_to_fit(tmp_path):
    with pytest.raises(InputError, match=r"sdxl_shapes_finetune_shapes.py: a FineTuner has no student of its own"):
        transfer_lora("any.safetensors", load_config("sdxl_shapes_finetune_shapes"), str(tmp_path / "out"))
