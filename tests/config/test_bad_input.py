"""Whatever is wrong with what the user gave ends a tool with status 2 and one line, before anything is written."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import runs
import torch
from runs import assert_one_line

from diffdistill.command import one_line, parse_options
from diffdistill.config.check import check
from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.registry import MODELS


@pytest.fixture
def train(tiny_sdxl, captioned_folder, tmp_path):
    """Try the published config with the given changes; whatever is wrong with them must leave no trace on the disk."""

    def attempt(*args, **changes) -> runs.Ended:
        work_dir = tmp_path / "work_dir"
        options = runs.published(tiny_sdxl, captioned_folder, **changes)
        ended = runs.tool("train", runs.PUBLISHED, "--work-dir", work_dir, *args, *runs.options(**options))
        assert not work_dir.exists()
        return ended

    return attempt


def refusal(folder: Path, options: dict) -> str:
    """What the check of the published config says of the given changes, by the path that the command takes."""
    config = [f"{key.replace('__', '.')}={value}" for key, value in options.items()]
    with pytest.raises(InputError) as refused:
        check(load_config(runs.PUBLISHED, parse_options(config), str(folder / "work_dir")))
    return one_line(refused.value)


THROUGH_THE_COMMAND = (0, 7, 20, 40, -1)  # of the rows below: a key, an option, a type, a value, a place


ROWS = [
    # keys
    (dict(model__teachr__checkpoint="x"), ["model.teachr", "nearest: teacher"]),
    (dict(model__student__kep="x"), ["model.student.kep", "nearest: keep"]),
    (dict(model__feature_pairs__lvl="x"), ["model.feature_pairs.lvl", "level"]),
    (dict(model__losses__task__wieght=2), ["model.losses.task.wieght", "nearest: weight"]),
    (dict(model__losses__task__weighting__gama=2), ["model.losses.task.weighting", "type"]),
    (
        dict(model__losses__task__distance__type="PseudoHuber", model__losses__task__distance__d=2),
        ["model.losses.task.distance.d", "nearest: c"],
    ),
    (
        dict(model__method__noise__type="OffsetNoise", model__method__noise__ofset=2),
        ["model.method.noise.ofset", "nearest: offset"],
    ),
    (dict(train_dataloder__batch_size=2), ["train_dataloder", "nearest: train_dataloader"]),
    (dict(train_dataloader__batchsize=2), ["train_dataloader.batchsize", "nearest: batch_size"]),
    (dict(train_dataloader__dataset__pipeline__0__sise=2), ["train_dataloader.dataset.pipeline.0.sise", "size"]),
    (dict(train_dataloader__dataset__pipeline__9__size=2), ["--cfg-options", "Index 9"]),
    (dict(train_cfg__max_iter=2), ["train_cfg.max_iter", "max_iters"]),
    (dict(optim_wrapper__optimizer__lrr=2), ["optim_wrapper.optimizer.lrr", "nearest: lr"]),
    (dict(optim_wrapper__clip_gard="x"), ["optim_wrapper.clip_gard", "clip_grad"]),
    (dict(randomness__sed=2), ["randomness.sed", "nearest: seed"]),
    (dict(default_hooks__samples__promts="x"), ["default_hooks.samples.promts", "nearest: prompts"]),
    (dict(default_hooks__ema__type="EMAHook", default_hooks__ema__momentm=2), ["default_hooks.ema.momentm", "momentum"]),
    (dict(model__sampling__num_inferense_steps=2), ["model.sampling.num_inferense_steps", "num_inference_steps"]),
    # types
    (dict(model__type="Distill"), ["model.type='Distill'", "nearest: Distiller"]),
    (dict(model__teacher__type="StableDiffusionX"), ["model.teacher.type='StableDiffusionX'", "StableDiffusionXL"]),
    (dict(model__method__type="Denoise"), ["model.method.type='Denoise'", "DenoisingKD"]),
    (dict(model__losses__task__type="TaskLos"), ["model.losses.task.type='TaskLos'", "TaskLoss"]),
    (dict(model__losses__task=2), ["model.losses.task=2", "a dict"]),
    (dict(model__losses__output__weighting__type="MinSRN"), ["model.losses.output.weighting.type='MinSRN'", "MinSNR"]),
    (dict(model__method__timesteps__type="Cubic"), ["model.method.timesteps.type='Cubic'", "CubicTimesteps"]),
    (
        dict(train_dataloader__dataset__type="CaptionedImage"),
        ["train_dataloader.dataset.type='CaptionedImage'", "CaptionedImages"],
    ),
    (dict(train_dataloader__dataset__pipeline__0__type="Resize"), ["pipeline.0.type='Resize'", "ResizeCrop"]),
    (dict(train_dataloader__sampler__type="Infinite"), ["train_dataloader.sampler.type='Infinite'", "InfiniteSampler"]),
    (dict(default_hooks__checkpoint__type="Checkpoint"), ["default_hooks.checkpoint.type", "SafeCheckpointHook"]),
    (dict(default_hooks__checkpint__interval=2), ["default_hooks.checkpint", "type"]),
    (dict(optim_wrapper__optimizer__type="AdamX"), ["optim_wrapper.optimizer.type='AdamX'", "Adam"]),
    (dict(model__losses__task__type="torch.nn.nothing"), ["model.losses.task.type='torch.nn.nothing'"]),
    # values
    (dict(model__dtype="bf16"), ["model.dtype='bf16'", "bfloat16"]),
    (
        dict(model__losses__task__weighting__type="MinSNR", model__losses__task__weighting__gamma=0),
        ["MinSNR: gamma=0", "above 0"],
    ),
    (dict(model__method__input_perturbation=-1), ["input_perturbation=-1", "above 0"]),
    (
        dict(model__method__timesteps__type="UniformTimesteps", model__method__timesteps__end=2000),
        ["end=2000", "1000 timesteps"],
    ),
    (dict(model__teacher__zero_terminal_snr=True), ["predicts epsilon", "v_prediction"]),
    (dict(model__sampling__scheduler="DDIM"), ["model.sampling.scheduler='DDIM'", "DDIMScheduler"]),
    (dict(model__student__keep="everything"), ["model.student.keep='everything'", "a dict"]),
    (dict(model__student__keep__mid_blok="[0]"), ["student.keep['mid_blok']", "mid_block.resnets"]),
    (dict(model__student__keep__mid_block__resnets="[0]"), ["model.student.keep.mid_block", "{'a.b': ...}"]),
    (dict(model__student__keep__down_blocks="[0,7]"), ["student.keep['down_blocks']", "layers 0 to 2"]),
    (dict(model__student__keep__down_blocks="[0,1]"), ["student.keep", "up_blocks [1, 2]"]),
    (dict(model__feature_pairs__rule="nxt"), ["feature_pairs.rule 'nxt'", "'next'"]),
    (dict(model__feature_pairs__level="nothing"), ["feature_pairs.level ['nothing']"]),
    (dict(model__feature_pairs__pairs__mid_blok="mid_block"), ["feature_pairs", "'mid_blok'", "nearest: mid_block"]),
    (dict(model__feature_pairs__pairs__mid_block="down_blocks"), ["feature_pairs", "teacher", "'down_blocks'"]),
    (dict(default_hooks__samples__prompts="[]"), ["default_hooks.samples.prompts"]),
    (
        dict(model__method__conditioning__type="RandomConditioning", train_dataloader__batch_size=1),
        ["train_dataloader.batch_size=1", "2 or more", "model.method.conditioning.captions"],
    ),
    (dict(optim_wrapper__accumulative_counts=3), ["default_hooks.checkpoint.interval=1000", "nearest is 999"]),
    (dict(train_dataloader__dataset__pipeline__1__p=3), ["RandomFlip", "3"]),
    (dict(train_dataloader__dataset__caption_column="title"), ["'title'", "image, text, score"]),
    (dict(train_dataloader__dataset__caption_column="score"), ["'score'", "float64"]),
    # places
    (dict(train_dataloader__dataset__source="/nowhere"), ["/nowhere", "no such file or folder"]),
    (dict(model__teacher__checkpoint="/nowhere"), ["model.teacher.checkpoint=/nowhere", "no such folder"]),
    (dict(model__teacher__checkpoint="diffdistill::nothing"), ["model.teacher.checkpoint=diffdistill::nothing"]),
    (dict(model__teacher__vae="/nowhere"), ["model.teacher.vae=/nowhere", "no such folder"]),
    (dict(model__student__checkpoint="/nowhere"), ["model.student.checkpoint=/nowhere", "no such folder"]),
    (dict(model__student__checkpoint="segmind/SSD-1B"), ["model.student.checkpoint=segmind/SSD-1B", "hf download"]),
]


@pytest.mark.parametrize(("changes", "parts"), ROWS, ids=lambda value: ",".join(value) if isinstance(value, dict) else "")
def test_a_mistake_in_the_config_is_refused(tiny_sdxl, captioned_folder, tmp_path, changes, parts):
    said = refusal(tmp_path, runs.published(tiny_sdxl, captioned_folder, **changes))
    assert [part for part in parts if str(part) not in said] == [], said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row", THROUGH_THE_COMMAND)
def test_a_mistake_in_the_config_is_one_line_of_the_command(train, row):
    changes, parts = ROWS[row]
    assert_one_line(train(**changes), *parts)


def test_options_are_pairs():
    ended = runs.tool("train", runs.PUBLISHED, "--cfg-options", "model.dtype")
    assert_one_line(ended, "--cfg-options model.dtype", "KEY=VALUE")
    ended = runs.tool("train", runs.PUBLISHED, "--cfg-options", "x=[1,(2]")
    assert_one_line(ended, "--cfg-options x=[1,(2]", "brackets")


def test_a_config_that_does_not_exist_is_answered_with_the_nearest():
    ended = runs.tool("train", "ssd_1b_distil_pokemon.py")
    assert_one_line(ended, "ssd_1b_distil_pokemon.py", "nearest: ssd_1b_distill_pokemon_blip")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model = dict(\n", ["line 1", "never closed"]),
        ("model = missing\n", ["NameError", "'missing'"]),
        ("_base_ = ['./nothing.py']\n", ["_base_", "nothing.py does not exist"]),
        ("'A module.'\n", ["has no model"]),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(text, parts, tmp_path):
    config = tmp_path / "mine.py"
    config.write_text(text)
    assert_one_line(runs.tool("train", config, "--work-dir", tmp_path / "run"), *parts)
    assert not (tmp_path / "run").exists()


def cut(file: Path):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("breaking", "parts"),
    [
        (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(), ["unet/", "no weights"]),
        (lambda folder: cut(folder / "vae" / "diffusion_pytorch_model.safetensors"), ["vae/", "cut short"]),
        (lambda folder: cut(folder / "unet" / "config.json"), ["unet/config.json", "no valid JSON"]),
        (lambda folder: shutil.rmtree(folder / "text_encoder"), ["text_encoder/config.json is missing"]),
        (lambda folder: shutil.rmtree(folder / "tokenizer_2"), ["tokenizer_2/", "tokenizer_2/tokenizer.json is missing"]),
        (lambda folder: shutil.rmtree(folder / "scheduler"), ["scheduler/scheduler_config.json"]),
        (lambda folder: (folder / "model_index.json").unlink(), ["model_index.json", "whole diffusers pipeline"]),
    ],
    ids=["no weights", "cut weights", "cut config", "no text encoder", "no tokenizer", "no scheduler", "no index"],
)
def test_a_half_downloaded_pipeline_is_named(train, tiny_sdxl, breaking, parts, tmp_path):
    folder = shutil.copytree(tiny_sdxl, tmp_path / "half")
    breaking(folder)
    assert_one_line(train(model__teacher__checkpoint=folder), f"model.teacher.checkpoint={folder}", *parts)


def test_a_pipeline_of_another_kind_is_named(train, tiny_sd, tiny_sdxl):
    assert_one_line(train(model__teacher__checkpoint=tiny_sd), f"={tiny_sd}", "StableDiffusionXLPipeline")
    assert_one_line(train(model__student__checkpoint=tiny_sdxl), f"={tiny_sdxl}", "model.student.keep", "transformer_blocks")
    assert_one_line(train(model__student__checkpoint=tiny_sdxl / "vae"), "AutoencoderKL", "UNet2DConditionModel")


def test_a_work_dir_that_cannot_be_written_is_named(tiny_sdxl, captioned_folder):
    file = captioned_folder / "metadata.csv"
    for work_dir in (file, file / "run"):
        options = runs.options(**runs.published(tiny_sdxl, captioned_folder))
        assert_one_line(runs.tool("train", runs.PUBLISHED, "--work-dir", work_dir, *options), f"--work-dir={work_dir}")


def test_a_checkpoint_that_cannot_be_resumed_is_named(train, shapes_run, captioned_folder):
    assert_one_line(train("--resume=/nowhere/iter_1.pth"), "--resume=/nowhere/iter_1.pth", "no such file")
    assert_one_line(train(f"--resume={captioned_folder / 'metadata.csv'}"), "metadata.csv is no checkpoint")
    other = shapes_run.work_dir / "iter_6.pth"
    assert_one_line(train(f"--resume={other}"), f"{other} is not a checkpoint of this config's student", "trained.unet.")


def test_a_checkpoint_of_a_wider_student_is_refused(shapes_run, tiny_sdxl, tmp_path):
    """Same names, other shapes: MMEngine would leave such tensors at their random values."""
    checkpoint = runs.checkpoint(shapes_run.work_dir, 6)
    checkpoint["state_dict"]["trained.unet.conv_in.bias"] = torch.zeros(9)
    torch.save(checkpoint, tmp_path / "wider.pth")
    options = runs.options(**runs.shapes(tiny_sdxl))
    ended = runs.tool("train", runs.SHAPES, "--work-dir", tmp_path / "run", f"--resume={tmp_path / 'wider.pth'}", *options)
    assert_one_line(ended, "trained.unet.conv_in.bias is (9,)", "(8,)")


def test_ranks_must_have_been_started(train):
    assert_one_line(train("--launcher=pytorch"), "--launcher=pytorch", "torchrun")


def test_the_first_pictures_are_read_before_anything_is_loaded(train, captioned_folder, tmp_path):
    folder = shutil.copytree(captioned_folder, tmp_path / "pictures")
    cut(folder / "00.png")  # one may be skipped
    cut(folder / "01.png")
    assert_one_line(train(train_dataloader__dataset__source=folder), folder, "row 1", "01.png", "max_skipped=0.01")


@pytest.mark.processes
def test_an_unreadable_picture_in_training_is_one_line(tiny_sdxl, captioned_folder, tmp_path):
    """By a real process, where a worker's error arrives with its traceback as the message."""
    folder = shutil.copytree(captioned_folder, tmp_path / "pictures")
    for picture in folder.glob("*g"):
        if picture.name != "00.png":
            cut(picture)
    options = runs.published(tiny_sdxl, folder, train_dataloader__num_workers=1)
    ended = runs.finish(runs.start("train", runs.PUBLISHED, "--work-dir", tmp_path / "run", *runs.options(**options)))
    assert_one_line(ended, f"error: {folder}: row ", "samples cannot be used")


@pytest.mark.processes
def test_a_hub_name_without_a_network_is_one_line(captioned_folder, tmp_path):
    """By a real process, which tries the hub; a closed port stands in for a network that is down."""
    start = time.monotonic()
    process = runs.start(
        "train",
        runs.PUBLISHED,
        "--work-dir",
        tmp_path / "run",
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "home"),
    )
    ended = runs.finish(process)
    warned, _, ended.err = ended.err.partition("\n")
    assert warned.startswith("warning: the Hugging Face Hub does not answer")
    named = "model.teacher.checkpoint=stabilityai/stable-diffusion-xl-base-1.0: no such folder"
    assert_one_line(ended, named, "model_index.json", "hf download", "model.teacher.checkpoint=FOLDER")
    assert time.monotonic() - start < 60
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("tool", "args", "parts"),
    [
        ("test", [runs.SHAPES, "--checkpoint", "/nowhere"], ["--checkpoint=/nowhere", "no such file or folder"]),
        ("test", ["nothing.py", "--checkpoint", "/nowhere"], ["'nothing.py'"]),
        ("test", [runs.SHAPES, "--checkpoint", os.devnull], [os.devnull, "no checkpoint of a run"]),
        ("test", [runs.SHAPES, "--checkpoint", ".", "--json", "/nowhere/x.json"], ["--json=/nowhere/x.json"]),
        ("test", [runs.PUBLISHED, "--checkpoint", ".", "--batches", "0"], ["--batches=0"]),
        ("sample", ["/nowhere", "--prompt", "a"], ["source=/nowhere", "no such folder"]),
        ("sample", ["/nowhere", "--prompt", "a", "--steps", "0"], ["--steps=0", "1 or more"]),
        ("sample", ["diffdistill::nothing", "--prompt", "a"], ["diffdistill::nothing", "the package"]),
        ("sample", [runs.PUBLISHED, "--prompt", "a"], ["unet does not exist", "--checkpoint"]),
    ],
)
def test_other_tools_answer_alike(tool, args, parts, tiny_sdxl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = runs.options(model__teacher__checkpoint=tiny_sdxl, model__teacher__vae=None)
    if str(args[0]).endswith(".py"):
        args = [*args, *options]
    assert_one_line(runs.tool(tool, *args), *parts)
    assert not list(tmp_path.iterdir())


def test_a_half_downloaded_pipeline_cannot_be_sampled(tiny_sdxl, tmp_path):
    folder = shutil.copytree(tiny_sdxl, tmp_path / "half")
    cut(folder / "unet" / "diffusion_pytorch_model.safetensors")
    ended = runs.tool("sample", folder, "--prompt", "a", "--out", tmp_path / "out")
    assert_one_line(ended, folder)
    assert not (tmp_path / "out").exists()


def edit(file: Path, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def name_fp16(folder: Path):
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda folder: edit(folder / "unet" / "config.json", in_channels=9), ["takes 9 channels", "inpainting"]),
        (lambda folder: edit(folder / "unet" / "config.json", class_embed_type="timestep"), ["class_embed_type='timestep'"]),
        (lambda folder: edit(folder / "unet" / "config.json", num_class_embeds=3), ["num_class_embeds=3"]),
        (lambda folder: edit(folder / "unet" / "config.json", addition_embed_type=None), ["addition_embed_type=None"]),
        (name_fp16, ["unet/ has weights of the variant fp16 alone", "model.teacher.variant='fp16'"]),
    ],
    ids=["inpainting", "classes", "class table", "no sizes", "fp16"],
)
def test_a_pipeline_for_something_else_is_named(thin_sdxl, tmp_path, change, parts):
    folder = shutil.copytree(thin_sdxl, tmp_path / "pipeline")
    change(folder)
    with pytest.raises(InputError) as error:
        MODELS.build(dict(type="StableDiffusionXL", checkpoint=str(folder)))
    assert [part for part in [str(folder), *parts] if part not in str(error.value)] == [], error.value


def test_a_file_of_one_model_is_no_pipeline(thin_sdxl):
    file = thin_sdxl / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(InputError, match=r"holds no U-Net in the original layout .*as a folder in the format of diffusers"):
        MODELS.build(dict(type="StableDiffusionXL", checkpoint=str(file)))


def test_weights_of_a_variant_are_taken_where_the_config_says_so(thin_sdxl, tmp_path):
    folder = shutil.copytree(thin_sdxl, tmp_path / "pipeline")
    name_fp16(folder)
    assert MODELS.build(dict(type="StableDiffusionXL", checkpoint=str(folder), variant="fp16")).load_denoiser()
