"""Runs whose students compute with few bits: validated, averaged, resumed, kept and handed on as such."""

import copy
import json

import pytest
import runs
import torch
from diffusers import UNet2DConditionModel
from staged import launch

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.models.base import build_model
from diffdistill.runs.load import Trained
from diffdistill.students.quantization import Grid, QuantizedConv2d, quantized_layers

TEXT = """
_base_ = ["{root}/configs/shapes/small_sd_xl_shapes.py"]
model = dict(
    teacher=dict(checkpoint="{teacher}"),
    student=dict(quantize=dict(bits=2, group_size=8, skip=["down_blocks.0"])),
    losses=dict(output=dict(weight=0.5)),
    gradient_checkpointing=True,
    sampling=dict(num_inference_steps=2),
)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
train_cfg = dict(max_iters=4, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
default_hooks = dict(
    checkpoint=dict(interval=2, max_keep_ckpts=-1), samples=dict(prompts=None), baseline=None, logger=dict(interval=1),
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.3),
)
custom_imports = dict(imports=["diffdistill.engine", "staged", "probe"])
custom_hooks = {custom}
"""
CAPTIONS, SEEDS = ["a red circle", "a blue square"], [3, 4]


def write(file, teacher, custom="[]"):
    file.write_text(TEXT.format(root=runs.ROOT, teacher=teacher, custom=custom))
    return file


@pytest.fixture(scope="module")
def straight(thin_sdxl, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    return launch(write(folder / "two_bits.py", thin_sdxl), folder / "run")


def config_of(run):
    return load_config(str(run.parent / "two_bits.py"), {}, str(run))


def test_the_folder_holds_quantised_values_and_the_checkpoint_full_weights(straight):
    averaged = {
        name.removeprefix("trained.unet."): each for name, each in runs.checkpoint(straight, 4)["state_dict"].items()
    }
    unet = UNet2DConditionModel.from_pretrained(straight / "unet")
    quantised = dict(
        quantized_layers(build_model(config_of(straight).model, check_model(config_of(straight).model)).student)
    )
    assert quantised
    assert not any(name.startswith("down_blocks.0.") for name in quantised)
    for name, found in unet.state_dict().items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and layer in quantised:
            assert not torch.equal(found, averaged[name])
            torch.testing.assert_close(found, Grid(2, 8).quantize(averaged[name]), rtol=0, atol=0)
        else:
            assert torch.equal(found, averaged[name])


def test_checkpoint_and_folder_draw_the_same(straight):
    pictures = []
    for found in ("iter_4.pth", "unet"):
        model = Trained(config_of(straight), str(straight / found)).load()
        assert not quantized_layers(model.student)
        pictures.append(model.sample_latents(CAPTIONS, SEEDS))
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-5)
    live = build_model(config_of(straight).model, check_model(config_of(straight).model)).eval()
    live.load_state_dict(runs.checkpoint(straight, 4)["state_dict"])
    torch.testing.assert_close(live.sample_latents(CAPTIONS, SEEDS), pictures[0], rtol=0, atol=1e-5)
    live.load_state_dict(
        {
            name.removeprefix("module."): each
            for name, each in runs.checkpoint(straight, 4)["ema_state_dict"].items()
            if name.startswith("module.")
        }
    )
    assert not torch.allclose(live.sample_latents(CAPTIONS, SEEDS), pictures[0], atol=1e-3)


def test_a_resumed_run_ends_with_the_same_weights(straight, thin_sdxl, tmp_path):
    file = write(tmp_path / "two_bits.py", thin_sdxl, '[dict(type="StopAt", step=3)]')
    with pytest.raises(RuntimeError, match="stopped"):
        launch(file, tmp_path / "run")
    launch(write(file, thin_sdxl), tmp_path / "run", resume="auto")
    for state in ("state_dict", "ema_state_dict"):
        assert not runs.differences(runs.checkpoint(tmp_path / "run", 4)[state], runs.checkpoint(straight, 4)[state])


def test_the_teacher_and_critics_are_not_quantised(thin_sdxl, tmp_path):
    config = load_config(str(write(tmp_path / "two_bits.py", thin_sdxl)), {})
    config.model.method = dict(type="DistributionMatching", guidance_scale=3.0)
    config.model.losses = dict(feature=dict(type="FeatureKD", normalize=True))
    plan = check_model(config.model)
    model = build_model(config.model, plan)
    assert any(type(each) is QuantizedConv2d for each in model.student.modules())
    assert not quantized_layers(model.teacher)
    assert not quantized_layers(model.critics)
    average = copy.deepcopy(model)
    assert quantized_layers(average.student).keys() == quantized_layers(model.student).keys()
    assert plan.trained_state().keys() == model.state_dict().keys()


@pytest.mark.processes
def test_two_ranks_keep_the_same_weights(thin_sdxl, tmp_path):
    file = write(tmp_path / "two_bits.py", thin_sdxl, '[dict(type="Probe")]')
    program = [
        str(runs.ROOT / "tools" / "train.py"),
        str(file),
        "--launcher",
        "pytorch",
        "--work-dir",
        str(tmp_path / "run"),
    ]
    runs.two_ranks([*program, *runs.options(val_evaluator=None, val_cfg=None, val_dataloader=None, train_cfg__max_iters=2)],
                   PYTHONPATH=f"{runs.ROOT}:{runs.ROOT}/tests/helpers")  # fmt: skip
    ranks = [json.loads((tmp_path / "run" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert ranks[0]["captions"] != ranks[1]["captions"]


@pytest.mark.parametrize(
    ("quantize", "words"),
    [
        (dict(bits=5), ["model.student.quantize.bits=5", "8, 4, 3, 2, 1.58"]),
        (dict(bits=2, groups=8), ["model.student.quantize.groups", "group_size"]),
        (dict(bits=2), ["group_size=32 does not divide"]),
        (dict(bits=8, skip=["mid_block"]), ["'mid_block' matches no module"]),
        (dict(group_size=8), ["model.student.quantize.bits is missing"]),
    ],
)
def test_bad_settings_are_one_line_before_anything_is_written(quantize, words, thin_sdxl, tmp_path):
    file = tmp_path / "bad.py"
    write(file, thin_sdxl)
    file.write_text(file.read_text().replace('bits=2, group_size=8, skip=["down_blocks.0"]', "**" + repr(quantize)))
    ended = runs.tool("train", file, "--work-dir", tmp_path / "run")
    runs.assert_one_line(ended, *words)
    assert not (tmp_path / "run").exists()


def test_an_adapter_and_few_bits_exclude_each_other(thin_sdxl, tmp_path):
    config = load_config(str(write(tmp_path / "two_bits.py", thin_sdxl)), {})
    config.model.student.adapter = dict(type="LoraConfig", r=2, target_modules=["to_q"])
    with pytest.raises(InputError, match=r"model.student.quantize=2 would stay untrained"):
        check_model(config.model)
