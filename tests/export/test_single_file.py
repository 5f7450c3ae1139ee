"""Students as single files: every cut there and back, as diffusers reads them, by the tools, and what is refused."""

import base64
import hashlib
import io
import json

import diffusers
import numpy as np
import plans
import published
import pytest
import runs
import tiny
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.export.readers import Readers
from diffdistill.export.single_file import check_layout, original_tensors
from diffdistill.families.architectures import load_architecture
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_pipeline
from diffdistill.models.student import StudentPlan
from diffdistill.original.unet import kept_layers, read_names, unet_names
from diffdistill.registry import MODELS
from diffdistill.students.cut import build_on_meta, state_on_meta
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.weights import make_student

UNET = diffusers.UNet2DConditionModel
WHOLE = None
SD = [f"bk_sdm_{size}_distill_from_sd_14_laion_212k" for size in ("base", "small", "tiny")]
SD_V = [f"bk_sdm_v2_{size}_distill_from_sd_21_laion_212k" for size in ("base", "small", "tiny")]
SMALL_XL, TINY_XL = "small_sd_xl_pokemon_blip", "tiny_sd_xl_pokemon_blip"
XL = [
    "ssd_1b_distill_from_sdxl_pokemon_blip",
    "vega_distill_from_sdxl_pokemon_blip",
    "koala_1b_distill_from_sdxl_turbo_laion_pop",
    "koala_700m_distill_from_sdxl_turbo_laion_pop",
    SMALL_XL,
    TINY_XL,
]
CASES = [
    *(("sd", name) for name in (WHOLE, *SD)),
    *(("sd_v", name) for name in SD_V),
    *(("xl", name) for name in (WHOLE, *XL)),
]


def open_clip(model_class, like, width: int):
    """A text encoder of OpenCLIP's kind, `width` wide."""
    config = type(like.config).from_dict({**like.config.to_dict(), "hidden_act": "gelu", "hidden_size": width})
    config.projection_dim = width
    torch.manual_seed(1)
    return model_class(config).eval()


@pytest.fixture(scope="module")
def teachers(tiny_sd, tiny_sd_v, tiny_sdxl, tmp_path_factory):
    """Name -> (folder, pipeline), with text encoders of the kinds that SD 1.x, 2.x and XL have, and XL's of two widths."""
    found = {"sd": (tiny_sd, load_pipeline(Checkpoint(str(tiny_sd), "source")))}
    for name, folder in (("sd_v", tiny_sd_v), ("xl", tiny_sdxl)):
        pipeline = load_pipeline(Checkpoint(str(folder), "source"))
        if name == "sd_v":
            pipeline.text_encoder = open_clip(CLIPTextModel, pipeline.text_encoder, tiny.WIDTH)
        else:
            pipeline.text_encoder_2 = open_clip(CLIPTextModelWithProjection, pipeline.text_encoder_2, 48)
            torch.manual_seed(1)
            pipeline.unet = tiny.sdxl_unet(cross_attention_dim=80, projection_class_embeddings_input_dim=48 + 6 * 8)
        pipeline.save_pretrained(whole := tmp_path_factory.mktemp("teachers") / name)
        found[name] = whole, pipeline
    return found


def student_of(teacher, config: str | None):
    """A pipeline of the teacher's parts around the student of that config."""
    unet, _ = make_student(teacher.unet, load_config(config).model.student.keep if config else {})
    options = dict(add_watermarker=False) if hasattr(teacher, "text_encoder_2") else dict(requires_safety_checker=False)
    return type(teacher)(**{**teacher.components, "unet": unet.eval()}, **options)


def assert_equal_parts(found, expected) -> int:
    count = 0
    for name, part in expected.components.items():
        if isinstance(part, torch.nn.Module):
            ours, theirs = getattr(found, name).state_dict(), part.state_dict()
            assert ours.keys() == theirs.keys(), name
            assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items()), name
            count += len(theirs)
    return count


@pytest.mark.parametrize(("kind", "config"), CASES)
def test_every_cut_there_and_back(kind, config, teachers, tmp_path):
    """The U-Net's config follows from the file and the whole teacher's."""
    folder, teacher = teachers[kind]
    student = student_of(teacher, config)
    tiny_cut = config is not None and "tiny_distill" in config
    for gapped in (False, True) if tiny_cut else (False,):
        save_file(original_tensors(student, gapped), file := tmp_path / f"{gapped}.safetensors")
        found = load_pipeline(Checkpoint(str(file), "source", str(folder)))
        assert assert_equal_parts(found, student) > 400
        ours, theirs = ({k: v for k, v in each.unet.config.items() if k[0] != "_"} for each in (found, student))
        assert state_on_meta(UNET, ours).keys() == state_on_meta(UNET, theirs).keys()
        assert found.scheduler.config.prediction_type == ("v_prediction" if kind == "sd_v" else "epsilon")
        torch.testing.assert_close(call(found.unet), call(student.unet), rtol=0, atol=1e-5)


@torch.no_grad()
def call(unet) -> torch.Tensor:
    """What a U-Net predicts for one noisy latent."""
    torch.manual_seed(0)
    inputs = rules_of(UNET).inputs(unet.config)
    inputs |= {key: torch.randn(inputs[key].shape) for key in ("sample", "encoder_hidden_states")}
    return unet(**inputs)[0]


READ_BY_DIFFUSERS = [
    ("sd", WHOLE),
    ("sd", SD[0]),
    ("sd", SD[2]),
    ("sd_v", SD_V[1]),
    ("xl", XL[0]),
    ("xl", XL[3]),
    ("xl", SMALL_XL),
]


@pytest.mark.parametrize(("kind", "config"), READ_BY_DIFFUSERS)
def test_diffusers_reads_the_same(kind, config, teachers, tmp_path):
    """By `from_single_file`, which is told the config of the student."""
    student = student_of(teachers[kind][1], config)
    student.save_pretrained(tmp_path / "folder")
    save_file(original_tensors(student), tmp_path / "file.safetensors")
    found = type(student).from_single_file(tmp_path / "file.safetensors", config=str(tmp_path / "folder"))
    assert_equal_parts(found, student)


UNETS = [
    name for name in plans.students() if plans.read(name).model.teacher.type in ("StableDiffusion", "StableDiffusionXL")
]


EXAMPLES = {published.student_of(name): name for name in UNETS}


@pytest.mark.parametrize("name", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_names_of_true_students(name):
    """One name each, dense numbers, and the same structure read from them."""
    plan = plans.plan(name)
    names = list(state_on_meta(UNET, plan.config))
    for gapped in (False, True):
        renamed = unet_names(names, gapped)
        assert len(set(renamed.values())) == len(names)
        assert read_names(renamed.values()) == {new: old for old, new in renamed.items()}
    for side in ("input_blocks", "output_blocks"):
        numbers = {int(new.split(".")[1]) for new in unet_names(names).values() if new.startswith(side)}
        assert numbers == set(range(len(numbers)))
    base = dict(build_on_meta(UNET, plan.family.denoiser_config).config)
    again = rules_of(UNET).thin(base, kept_layers(names, len(base["down_block_types"])))
    shapes = [{key: tensor.shape for key, tensor in state_on_meta(UNET, each).items()} for each in (again, plan.config)]
    assert shapes[0] == shapes[1]


COMFYUI = {
    "bk_sdm_base": "SD15", "bk_sdm_small": "SD15", "bk_sdm_tiny": "SD15", "sd_small": "SD15", "sd_tiny": "SD15",
    "bk_sdm_v2_base": "SD20", "bk_sdm_v2_small": "SD20", "bk_sdm_v2_tiny": "SD20", "ssd_1b": "SSD1B", "vega": "Segmind_Vega",
    "koala_700m": "KOALA_700M", "koala_1b": "KOALA_1B", "small_sd_xl": None, "tiny_sd_xl": None,
}  # fmt: skip
CPP = {"bk_sdm_tiny": "SD-Tiny", "bk_sdm_v2_tiny": "SD-Tiny", "sd_tiny": "SD-Tiny", "ssd_1b": "SSD-1B", "vega": "Vega"}


@pytest.mark.parametrize("student", COMFYUI)
def test_which_programs_read_a_published_student(student):
    plan = plans.plan(EXAMPLES[student])
    readers = Readers(plan.config, state_on_meta(UNET, plan.config))
    assert (readers.comfyui, readers.cpp, readers.whole) == (COMFYUI[student], CPP.get(student), False)
    said = {line.split(":")[0]: line for line in readers.lines("comfyui", "v2" in student)}
    assert ("does not know" in said["ComfyUI"]) == (COMFYUI[student] is None)
    assert ("ModelSamplingDiscrete" in said["ComfyUI"]) == ("v2" in student)
    assert ("reads it" in said["A1111"]) == (student == "ssd_1b")
    assert ("random mid block" in said["Forge"]) == (not readers.has_middle and readers.comfyui is not None)


def test_whole_teachers_are_read_everywhere():
    for name, comfyui in (("sd_1", "SD15"), ("sd_2_v", "SD20"), ("sdxl", "SDXL")):
        config = load_architecture(name)["unet/config.json"]
        readers = Readers(build_on_meta(UNET, config).config, state_on_meta(UNET, config))
        assert (readers.comfyui, readers.whole) == (comfyui, True)
        assert readers.cpp is not None


def test_names_of_tiny_students_for_stable_diffusion_cpp():
    """As it has them: numbers of a full model, and the innermost upsampler where a stage without attention has it."""
    plan = plans.plan(SD[2])
    names = unet_names(state_on_meta(UNET, plan.config), gapped=True).values()
    blocks = {".".join(name.split(".")[:3]) for name in names if name[:2] in ("in", "ou") and "blocks" in name}
    ins = {"0.0", "1.0", "1.1", "3.0", "4.0", "4.1", "6.0", "7.0", "7.1"}
    outs = {"0.0", "0.1", "1.0", "1.1", "2.1", "3.0", "3.1", "4.0", "4.1", "5.2", "6.0", "6.1", "7.0", "7.1"}
    assert blocks == {f"input_blocks.{block}" for block in ins} | {f"output_blocks.{block}" for block in outs}


# The tools


@pytest.fixture(scope="module")
def shapes_file(shapes_run, thin_sdxl, tmp_path_factory):
    """A single file by the tool, in fp32, and how the tool ended."""
    file = tmp_path_factory.mktemp("files") / "student.safetensors"
    return file, export(thin_sdxl, shapes_run.work_dir / "unet", file, "--dtype", "float32", "--licence", "mit")


def export(teacher, *args) -> runs.Ended:
    return runs.tool("export", runs.SHAPES, *args, "--single-file", *runs.options(**runs.shapes(teacher)))


def test_the_tool_says_who_reads_the_file_and_describes_it_there(shapes_file, shapes_run):
    file, ended = shapes_file
    assert ended.code == 0, ended
    assert ended.out.splitlines()[0] == str(file)
    programs = [line.split(":")[0] for line in ended.out.splitlines()[1:]]
    assert programs == ["ComfyUI", "Forge", "stable-diffusion.cpp", "A1111", "InvokeAI"]
    with safe_open(file, framework="pt") as opened:
        said = {key.removeprefix("modelspec."): value for key, value in opened.metadata().items()}
    fixed = dict(sai_model_spec="1.0.1", implementation="sgm", title="student", resolution="32x32", license="mit")
    assert said | fixed | dict(prediction_type="epsilon") == said
    assert said["architecture"].startswith("stable-diffusion-xl-v1-base-cut-")
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert said["hash_sha256"] == f"0x{hashlib.sha256(content[start:]).hexdigest()}"
    assert str(shapes_run.work_dir.parent) not in json.dumps(said)
    picture = Image.open(io.BytesIO(base64.b64decode(said["thumbnail"].removeprefix("data:image/jpeg;base64,"))))
    assert (picture.format, picture.size) == ("JPEG", (256, 256))


def test_the_file_is_a_pipeline_a_student_and_a_teacher(shapes_file, shapes_run, thin_sdxl, tmp_path):
    """Sampled alone and as a student of its config it draws what the run's own student draws."""
    file, out = shapes_file[0], tmp_path / "pictures"
    options = runs.options(**runs.shapes(thin_sdxl))
    draw = ["--prompt", "a red circle", "--steps", 2, "--out"]
    ended = runs.tool(
        "sample", f"{runs.SHAPES}={shapes_run.work_dir / 'unet'}", f"{runs.SHAPES}={file}", *draw, out, *options
    )
    assert ended.code == 0, ended
    pictures = [np.asarray(Image.open(path)) for path in sorted(out.glob("small_sd_xl*_0.png"))]
    assert len(pictures) == 2
    assert np.array_equal(*pictures)
    assert runs.tool("sample", file, "--config", thin_sdxl, *draw, tmp_path / "alone").code == 0
    assert (tmp_path / "alone" / "student_0.png").exists()
    config = load_config(runs.SHAPES, {"model.teacher.checkpoint": str(file), "model.teacher.config": str(thin_sdxl)})
    family = MODELS.build(dict(config.model.teacher))
    unet = UNET.from_pretrained(shapes_run.work_dir / "unet").state_dict()
    loaded = family.load_denoiser().state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in unet.items())
    assert family.load(torch.float32).text_encoder_2.dtype == torch.float32


def test_a_test_of_the_file_measures_the_student(shapes_file, shapes_run, thin_sdxl, tmp_path):
    paths = [f"run={shapes_run.work_dir / 'unet'}", f"file={shapes_file[0]}"]
    figures = tmp_path / "figures.json"
    options = runs.options(**runs.shapes(thin_sdxl))
    ended = runs.tool(
        "test", runs.SHAPES, "--checkpoint", *paths, "--json", figures, "--work-dir", tmp_path / "run", *options
    )
    assert ended.code == 0, ended
    first, second = (
        {k: v for k, v in each.items() if k not in ("model", "checkpoint")}
        for each in json.loads(figures.read_text())["results"]
    )
    for key, value in first.items():
        if isinstance(value, float):
            assert second[key] == pytest.approx(value, rel=1e-4), key


def test_half_the_size_in_half_precision(shapes_file, shapes_run, thin_sdxl, tmp_path):
    assert export(thin_sdxl, shapes_run.work_dir / "unet", tmp_path / "half.safetensors").code == 0
    half, full = load_file(tmp_path / "half.safetensors"), load_file(shapes_file[0])
    assert half.keys() == full.keys()
    assert all(torch.equal(half[name], tensor.half()) for name, tensor in full.items())


# Bad input


def test_marks_of_v_prediction_are_written_and_read(teachers, tmp_path):
    folder, teacher = teachers["xl"]
    student = student_of(teacher, WHOLE)
    student.scheduler = diffusers.EulerDiscreteScheduler.from_config(
        teacher.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    tensors = original_tensors(student)
    assert {"v_pred", "ztsnr"} <= tensors.keys()
    save_file(tensors, file := tmp_path / "v.safetensors")
    found = load_pipeline(Checkpoint(str(file), "source", str(folder))).scheduler.config
    assert (found.prediction_type, found.rescale_betas_zero_snr, found.timestep_spacing) == (
        "v_prediction",
        True,
        "trailing",
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["out"], "--single-file writes one file; name it *.safetensors"),
        (["out.safetensors", "--names", "sd.cpp"], "stable-diffusion.cpp reads uncut U-Nets of SD 1.x, 2.x and XL, SD-Tiny"),
        (["out.safetensors", "--speed", "x.json"], "--speed is for a folder with a card"),
        (["none/out.safetensors"], "name a file in a folder that exists"),
    ],
)
def test_options_that_do_not_fit(args, words, shapes_run, thin_sdxl, tmp_path):
    ended = export(thin_sdxl, shapes_run.work_dir / "unet", tmp_path / args[0], *args[1:])
    runs.assert_one_line(ended, words)
    assert not any(tmp_path.iterdir())


def test_a_file_needs_the_flag_and_names_need_it(thin_sdxl, tmp_path):
    for args, words in (
        ([tmp_path / "a.safetensors"], "add --single-file"),
        ([tmp_path / "a", "--names", "sd.cpp"], "is for --single-file"),
    ):
        runs.assert_one_line(runs.tool("export", runs.SHAPES, *args, *runs.options(**runs.shapes(thin_sdxl))), words)


def test_a_transformer_has_no_place_in_it(sd3_run, sd3_config, tmp_path):
    ended = runs.tool(
        "export", sd3_config, tmp_path / "a.safetensors", "--single-file", "--checkpoint", sd3_run.work_dir / "transformer"
    )
    runs.assert_one_line(ended, "StableDiffusion3", "SD 1.x, 2.x and XL")


def test_what_has_no_place_in_the_layout(thin_sdxl):
    """An adapter that stays one, and an embedding of the guidance scale."""
    teacher = dict(type="StableDiffusionXL", checkpoint=str(thin_sdxl))
    adapted = StudentPlan(teacher, {}, dict(adapter=dict(type="LoraConfig", target_modules=["to_q"])))
    check_layout(adapted, fuse_lora=True)
    with pytest.raises(InputError, match="add --fuse-lora"):
        check_layout(adapted, fuse_lora=False)
    guided = StudentPlan(
        teacher, {}, dict(guidance_embedding=16), dict(type="GuidanceDistillation", guidance_scale=[1.0, 8.0])
    )
    with pytest.raises(InputError, match="embeds the guidance scale"):
        check_layout(guided, fuse_lora=False)


def broken(file, tmp_path, change):
    tensors = load_file(file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors, metadata = change(tensors, metadata)
    save_file(tensors, made := tmp_path / "broken.safetensors", metadata)
    return made


BROKEN = {
    "without_vae": (lambda t, m: ({k: v for k, v in t.items() if "first_stage" not in k}, m), "has no vae"),
    "without_text": (lambda t, m: ({k: v for k, v in t.items() if "embedders.1" not in k}, m), "has no text_encoder_2"),
    "foreign": (lambda t, m: (t, None), "does not tell which pipeline it is like; set model.teacher.config"),
    "lora": (lambda t, m: ({"lora_unet_x.alpha": torch.ones(1)}, None), "holds no U-Net in the original layout"),
    "code": (
        lambda t, m: (t, {**m, "diffdistill.configs": '{"model_index.json": {"_class_name": "X", "unet": ["mine", "Y"]}}'}),
        "names code of its own for unet",
    ),
    "no_configs": (lambda t, m: (t, {**m, "diffdistill.configs": "[1]"}), "is no dict of configs"),
    "unet_in_part": (
        lambda t, m: ({k: v for k, v in t.items() if "output_blocks.0.0.out_layers.3.bias" not in k}, {}),
        "is no cut of that of",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_are_no_pipelines(name, shapes_file, thin_sdxl, tmp_path):
    change, words = BROKEN[name]
    file = broken(shapes_file[0], tmp_path, change)
    given = {} if name == "foreign" else dict(config=str(thin_sdxl))
    with pytest.raises(InputError) as error:  # the U-Net's structure is read when the config is checked
        MODELS.build(dict(type="StableDiffusionXL", checkpoint=str(file), **given))
    assert words in str(error.value)
    assert str(error.value).startswith(f"model.teacher.checkpoint={file}")


def test_a_file_cut_short(shapes_file, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(shapes_file[0].read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short or damaged"):
        MODELS.build(dict(type="StableDiffusionXL", checkpoint=str(tmp_path / "a.safetensors")))


def test_a_student_of_another_config(shapes_file, shapes_run, thin_sdxl, tmp_path):
    ended = runs.tool(
        "sample",
        f"sdxl_shapes_lcm.py={shapes_file[0]}",
        "--prompt",
        "x",
        "--out",
        tmp_path / "out",
        *runs.options(**runs.shapes(thin_sdxl)),
    )
    runs.assert_one_line(ended, "is not the student that model.student.keep describes")


def test_a_config_is_for_single_files(thin_sdxl, tmp_path):
    with pytest.raises(InputError, match=r"model\.teacher\.config=.* is for a single file"):
        MODELS.build(dict(type="StableDiffusionXL", checkpoint=str(thin_sdxl), config=str(thin_sdxl)))
    ended = runs.tool("sample", thin_sdxl, "--config", thin_sdxl, "--prompt", "x", "--out", tmp_path / "out")
    runs.assert_one_line(ended, "no source is a single file")
