"""ControlNets, T2I- and IP-Adapters of a teacher on its students, through diffusers' own pipelines and by the tools."""

import json

import diffusers
import numpy as np
import pytest
import runs
import tiny
import torch
from diffusers import ControlNetModel, T2IAdapter
from PIL import Image
from safetensors.torch import load_file, save_file

from diffdistill.config.read import load_config
from diffdistill.export.controlnet_transfer import transfer_controlnet
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_pipeline
from diffdistill.students.controlnet import SelectedControlNet, residual_layers
from diffdistill.students.weights import make_student

BK_BASE, BK_SMALL, BK_TINY = (f"bk_sdm_{size}_distill_from_sd_14_laion_212k" for size in ("base", "small", "tiny"))
SSD_1B, VEGA = "ssd_1b_distill_from_sdxl_pokemon_blip", "vega_distill_from_sdxl_pokemon_blip"
KOALA = "koala_700m_distill_from_sdxl_turbo_laion_pop"
CHOSEN = {BK_BASE: [0, 1, 3, 4, 6, 7, 9, 10], BK_TINY: [0, 1, 3, 4, 6, 7], KOALA: [0, 1, 3, 4, 6, 7]}


@pytest.fixture(scope="module")
def teachers(tiny_sd, tiny_sdxl):
    """Whether it is SDXL -> folder and pipeline."""
    return {
        xl: (folder, load_pipeline(Checkpoint(str(folder), "source")))
        for xl, folder in ((False, tiny_sd), (True, tiny_sdxl))
    }


@pytest.fixture(scope="module")
def controlnets(teachers, tmp_path_factory):
    """Whether it is SDXL -> the folder of a ControlNet of the teacher, with last convolutions that are not zero."""
    found = {}
    for xl, (_, pipeline) in teachers.items():
        controlnet = ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=(8, 16))
        torch.manual_seed(3)
        for name, parameter in controlnet.named_parameters():
            if name.startswith("controlnet_"):
                torch.nn.init.normal_(parameter, std=0.1)
        controlnet.save_pretrained(found.setdefault(xl, tmp_path_factory.mktemp("controlnets") / str(xl)))
    return found


@pytest.fixture(scope="module")
def students(teachers):
    """A function that makes the pipeline of a config's student, from the teacher in memory, and its layer map."""
    made = {}

    def make(xl: bool, config: str):
        if config not in made:
            teacher = teachers[xl][1]
            unet, layers = make_student(teacher.unet, load_config(config).model.student.keep)
            made[config] = type(teacher)(**{**teacher.components, "unet": unet.eval()}, **plain(xl)), layers
        return made[config]

    return make


def plain(xl: bool) -> dict:
    return dict(add_watermarker=False) if xl else dict(requires_safety_checker=False)


def transfer(adapter, config, folder, out, *args) -> runs.Ended:
    changes = runs.options(model__teacher__checkpoint=folder, model__teacher__vae=None)
    return runs.tool("transfer_controlnet", adapter, config, out, *args, *changes)


def whole(name: str, folder):
    """The config `name`, of a student that keeps every layer."""
    config = load_config(name, {"model.teacher.checkpoint": str(folder), "model.teacher.vae": None})
    config.model.student = dict(keep={})
    return config


def picture() -> Image.Image:
    return tiny.coordinates(32, 32)


def draw(pipeline, xl: bool, controlnet, **options) -> np.ndarray:
    """A picture of the prompt under the picture, by the pipeline of diffusers around the ControlNet."""
    kind = diffusers.StableDiffusionXLControlNetPipeline if xl else diffusers.StableDiffusionControlNetPipeline
    controlled = kind(**pipeline.components, controlnet=controlnet, **plain(xl))
    controlled.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    options = dict(num_inference_steps=1, guidance_scale=1.0, output_type="np", generator=generator) | options
    return controlled("a red circle", image=picture(), **options).images[0]


@torch.no_grad()
def residuals(controlnet, xl: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    width = controlnet.config.cross_attention_dim
    added = dict(text_embeds=torch.randn(1, tiny.WIDTH), time_ids=torch.ones(1, 6)) if xl else None
    inputs = torch.randn(1, 4, 16, 16), 500, torch.randn(1, 7, width), torch.rand(1, 3, 32, 32)
    return controlnet(*inputs, added_cond_kwargs=added, return_dict=False)


@pytest.mark.parametrize(("xl", "config"), [(False, BK_BASE), (False, BK_TINY), (True, KOALA)])
def test_a_student_with_fewer_layers_takes_those_of_its_own(xl, config, teachers, controlnets, students, tmp_path):
    ended = transfer(controlnets[xl], config, teachers[xl][0], tmp_path / "out", "--json", tmp_path / "figures.json")
    assert ended.code == 0, ended
    assert "SelectedControlNet.from_pretrained" in ended.out
    assert json.loads((tmp_path / "figures.json").read_text())["residuals"] == CHOSEN[config]
    found, whole = SelectedControlNet.from_pretrained(tmp_path / "out"), ControlNetModel.from_pretrained(controlnets[xl])
    (ours, mid), (theirs, last) = residuals(found, xl), residuals(whole, xl)
    assert all(torch.equal(one, theirs[number]) for one, number in zip(ours, CHOSEN[config], strict=True))
    assert torch.equal(mid, torch.zeros_like(ours[-1]) if config == BK_TINY else last)
    student, _ = students(xl, config)
    with_it = draw(student, xl, found)
    assert np.abs(with_it - draw(student, xl, found, controlnet_conditioning_scale=0.0)).max() > 1e-3


@pytest.mark.parametrize("config", [SSD_1B, VEGA])
def test_those_of_sdxl_run_as_they_are_where_no_resnet_of_the_way_down_is_gone(
    config, teachers, controlnets, students, tmp_path
):
    ended = transfer(controlnets[True], config, teachers[True][0], tmp_path / "out")
    assert ended.code == 0, ended
    assert "as it is" in ended.out
    found, theirs = (ControlNetModel.from_pretrained(folder) for folder in (tmp_path / "out", controlnets[True]))
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in theirs.state_dict().items())
    student, _ = students(True, config)
    assert np.array_equal(draw(student, True, found), draw(student, True, theirs))


@pytest.mark.parametrize(("xl", "config"), [(False, BK_BASE), (True, SSD_1B)])
@pytest.mark.parametrize("thin", [False, True])
def test_keeping_every_layer_changes_nothing(xl, config, thin, teachers, controlnets, tmp_path):
    figures = transfer_controlnet(str(controlnets[xl]), whole(config, teachers[xl][0]), str(tmp_path / "out"), thin)
    assert figures["load"].startswith("ControlNetModel.")
    found, theirs = (ControlNetModel.from_pretrained(folder) for folder in (tmp_path / "out", controlnets[xl]))
    (ours, mid), (expected, last) = residuals(found, xl), residuals(theirs, xl)
    for one, other in zip([*ours, mid], [*expected, last], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("xl", "config"), [(False, BK_BASE), (False, BK_SMALL), (False, BK_TINY), (True, SSD_1B)])
def test_a_thinned_one_is_a_cut_of_the_whole(xl, config, teachers, controlnets, students, tmp_path):
    """Plain ControlNetModels, whose layers are the teacher's by the layer map; their residuals fit the student."""
    ended = transfer(controlnets[xl], config, teachers[xl][0], tmp_path / "out", "--thin")
    assert ended.code == 0, ended
    student, layers = students(xl, config)
    found, theirs = ControlNetModel.from_pretrained(tmp_path / "out"), ControlNetModel.from_pretrained(controlnets[xl])
    ours, weights = found.state_dict(), theirs.state_dict()
    assert list(residual_layers(found.config)) == list(residual_layers(student.unet.config))
    same = [name for name in ours if name.split(".")[0] == "down_blocks"]
    assert all(torch.equal(ours[name], weights[layers.to_teacher(name)]) for name in same)
    assert len(same) < sum(name.startswith("down_blocks.") for name in weights)
    assert np.isfinite(draw(student, xl, found)).all()


@pytest.mark.parametrize(("xl", "config"), [(False, BK_TINY), (True, SSD_1B), (True, KOALA)])
def test_t2i_adapters_run_on_all(xl, config, teachers, students, tmp_path):
    widths = list(teachers[xl][1].unet.config.block_out_channels)
    channels, kind = (widths + [widths[-1]] if xl else widths), "full_adapter_xl" if xl else "full_adapter"
    torch.manual_seed(0)
    T2IAdapter(channels=channels, num_res_blocks=1, downscale_factor=4 if xl else 2, adapter_type=kind).save_pretrained(
        tmp_path / "t2i"
    )
    ended = transfer(tmp_path / "t2i", config, teachers[xl][0], tmp_path / "out")
    assert ended.code == 0, ended
    adapter = T2IAdapter.from_pretrained(tmp_path / "out")
    student, _ = students(xl, config)
    kind = diffusers.StableDiffusionXLAdapterPipeline if xl else diffusers.StableDiffusionAdapterPipeline
    parts = {name: part for name, part in student.components.items() if xl or name != "image_encoder"}
    pipeline = kind(**parts, adapter=adapter, **({} if xl else plain(xl)))
    pipeline.set_progress_bar_config(disable=True)

    def drawn(scale: float) -> np.ndarray:
        options = dict(num_inference_steps=1, output_type="np", generator=torch.Generator().manual_seed(0))
        return pipeline("a", image=picture(), height=32, width=32, adapter_conditioning_scale=scale, **options).images[0]

    assert np.abs(drawn(1.0) - drawn(0.0)).max() > 1e-4


def write_ip_adapter(unet, file) -> None:
    """An IP-Adapter of four tokens with random weights, numbered as the published ones are."""
    torch.manual_seed(4)
    width, tensors = unet.config.cross_attention_dim, {}
    tensors |= {"image_proj.proj.weight": torch.randn(4 * width, 8), "image_proj.proj.bias": torch.randn(4 * width)}
    tensors |= {"image_proj.norm.weight": torch.randn(width), "image_proj.norm.bias": torch.randn(width)}
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            out = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for kind in ("k", "v"):
                tensors[f"ip_adapter.{number}.to_{kind}_ip.weight"] = torch.randn(out, width)
    save_file(tensors, file)


def loaded(unet, file) -> dict[str, torch.Tensor]:
    """Cross-attention -> the key projection that diffusers gives it of the IP-Adapter `file`."""
    parts = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(file).items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    before = dict(unet.attn_processors)
    unet._load_ip_adapter_weights([parts])
    found = {name: each.to_k_ip[0].weight for name, each in unet.attn_processors.items() if hasattr(each, "to_k_ip")}
    unet.set_attn_processor(before)
    unet.encoder_hid_proj = None
    unet.config.encoder_hid_dim_type = None
    return found


@pytest.mark.parametrize(("xl", "config"), [(False, BK_BASE), (False, BK_TINY), (True, SSD_1B)])
def test_an_ip_adapters_layers_are_numbered_anew(xl, config, teachers, students, tmp_path):
    folder, teacher = teachers[xl]
    write_ip_adapter(teacher.unet, file := tmp_path / "ip.safetensors")
    ended = transfer(file, config, folder, tmp_path / "out")
    assert ended.code == 0, ended
    student, layers = students(xl, config)
    theirs, ours = loaded(teacher.unet, file), loaded(student.unet, tmp_path / "out" / "ip_adapter.safetensors")
    assert len(ours) == sum("attn2" in name for name in student.unet.attn_processors) < len(theirs)
    assert all(torch.equal(weight, theirs[layers.to_teacher(name)]) for name, weight in ours.items())


def test_an_ip_adapter_of_a_whole_student_stays_as_it_is(teachers, tmp_path):
    for xl, config in ((False, BK_BASE), (True, SSD_1B)):
        write_ip_adapter(teachers[xl][1].unet, file := tmp_path / f"{xl}.safetensors")
        transfer_controlnet(str(file), whole(config, teachers[xl][0]), str(tmp_path / f"out_{xl}"))
        before, after = load_file(file), load_file(tmp_path / f"out_{xl}" / "ip_adapter.safetensors")
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


# Sampling


def test_sample_draws_under_a_control(teachers, controlnets, students, tmp_path):
    """What diffusers' pipeline draws from the same noise, on the student; a ControlNet that does not fit is one line."""
    student, _ = students(False, BK_BASE)
    student.save_pretrained(tmp_path / "student")
    assert transfer(controlnets[False], BK_BASE, teachers[False][0], tmp_path / "control").code == 0
    picture().save(tmp_path / "control.png")
    common = ["--prompt", "a red circle", "--steps", 1, "--guidance-scale", 1.0, "--control-image", tmp_path / "control.png"]
    ended = runs.tool(
        "sample", tmp_path / "student", "--controlnet", tmp_path / "control", *common, "--out", tmp_path / "out"
    )
    assert ended.code == 0, ended
    expected = draw(student, False, SelectedControlNet.from_pretrained(tmp_path / "control"))
    drawn = np.asarray(Image.open(tmp_path / "out" / "student_0.png"))
    assert np.array_equal(drawn, (expected * 255).round().astype(np.uint8))
    ended = runs.tool("sample", tmp_path / "student", "--controlnet", controlnets[False], *common, "--out", tmp_path / "b")
    runs.assert_one_line(ended, "12 residuals", "takes 8", "transfer_controlnet")
    ended = runs.tool(
        "sample", tmp_path / "student", "--controlnet", tmp_path / "control", "--prompt", "a", "--out", tmp_path / "b"
    )
    runs.assert_one_line(ended, "--control-image")
    ended = runs.tool("sample", BK_BASE + ".py", "--controlnet", tmp_path / "control", *common, "--out", tmp_path / "b")
    runs.assert_one_line(ended, "export", "--controlnet")


# Bad input


def test_adapters_of_other_bases_and_kinds(teachers, controlnets, tiny_sd3, tmp_path):
    sd, xl = teachers[False][0], teachers[True][0]
    write_ip_adapter(teachers[True][1].unet, tmp_path / "ip.safetensors")
    save_file({"unet.x.lora_A.weight": torch.ones(1, 1)}, tmp_path / "lora.safetensors")
    T2IAdapter(channels=[4, 8], num_res_blocks=1, downscale_factor=2).save_pretrained(tmp_path / "t2i")
    (tmp_path / "empty").mkdir()
    cases = [
        (
            controlnets[True],
            BK_BASE,
            sd,
            [],
            "a ControlNet of another base: its cross_attention_dim is 64 and the teacher's 32",
        ),
        (controlnets[False], SSD_1B, xl, [], "a ControlNet of another base"),
        (tmp_path / "ip.safetensors", BK_BASE, sd, [], "it was made for another base"),
        (tmp_path / "lora.safetensors", BK_BASE, sd, [], "is no IP-Adapter"),
        (tmp_path / "t2i", BK_BASE, sd, [], "of another base: its channels are [4, 8]"),
        (tmp_path / "t2i", BK_BASE, sd, ["--thin"], "--thin: "),
        (tmp_path / "empty", BK_BASE, sd, [], "has no config.json"),
        (sd / "unet", BK_BASE, sd, [], "is a UNet2DConditionModel; known are ControlNetModel, T2IAdapter"),
        (tmp_path / "none", BK_BASE, sd, [], "no such file or folder"),
        (
            controlnets[False],
            "sd_3_medium_12_distill_from_sd_3_medium_laion_pop",
            tiny_sd3,
            [],
            "the teacher is a StableDiffusion3",
        ),
        (controlnets[False], "tiny_sd_portrait_finetune", sd, [], "has no student of its own"),
    ]
    for adapter, config, folder, args, words in cases:
        if "finetune" in config or "sd_3" in config:
            ended = runs.tool("transfer_controlnet", adapter, config, tmp_path / "out")
        else:
            ended = transfer(adapter, config, folder, tmp_path / "out", *args)
        runs.assert_one_line(ended, words)
        assert not (tmp_path / "out").exists()
