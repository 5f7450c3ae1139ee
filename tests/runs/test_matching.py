"""Runs with a fake score: stopped and resumed to the bit, on one rank and two, and loaded in plain diffusers."""

import json
import shutil
from itertools import pairwise

import diffusers
import pytest
import runs
import torch
from staged import StopAt, assert_equal, launch

from diffdistill.config.check import check
from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.runs.load import Trained

TEXT = """
_base_ = ["{root}/configs/shapes/small_sd_xl_shapes.py"]
model = dict(
    teacher=dict(checkpoint="{teacher}"),
    student={student},
    method=dict(_delete_=True, type="DistributionMatching", guidance_scale=3.0, {method}),
    losses=dict(task=dict(weight=0.5), output=None, feature=None),
    sampling=dict(_delete_=True, num_inference_steps=1, guidance_scale=3.0),
)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
train_cfg = dict(max_iters={iters}, val_interval=100)
optim_wrapper = dict(optimizer=dict(lr=1e-3), accumulative_counts={accumulate}, {wrapper})
default_hooks = dict(
    checkpoint=dict(interval=2, max_keep_ckpts=-1), samples=dict(prompts=None), baseline=None, logger=dict(interval=1),
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.3),
)
custom_hooks = {custom}
custom_imports = dict(imports=["diffdistill.engine", "probe"])
"""
LORA = dict(type="LoraConfig", r=2, target_modules=["to_q", "to_v"])
KEEP = {"_delete_": True, "mid_block.attentions": [], "mid_block.resnets": [0]}
WHOLE, ADAPTER = f"dict(keep={KEEP})", f"dict(keep=dict(_delete_=True), adapter={LORA})"
FAKE = "paramwise_cfg=dict(fake_score=dict(lr=2e-3, max_norm=10.0))"
PLACES = dict(PYTHONPATH=f"{runs.ROOT}:{runs.ROOT}/tests/helpers")


def write(file, teacher, method="ratio=2", student=WHOLE, wrapper=FAKE, iters=8, accumulate=2, custom="[]"):
    values = dict(method=method, student=student, wrapper=wrapper, iters=iters, accumulate=accumulate, custom=custom)
    file.write_text(TEXT.format(root=runs.ROOT, teacher=teacher, **values))
    return file


def parts(state, prefix):
    return {name: tensor for name, tensor in state.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def straight(shallow_sdxl, tmp_path_factory):
    """A cut for two steps, with a ratio of 2 and updates of two iterations: the student moves in iterations 3-4 and 7-8."""
    folder = tmp_path_factory.mktemp("matching")
    return launch(write(folder / "matching.py", shallow_sdxl, "ratio=2, steps=2"), folder / "run")


def test_turns_are_counted_in_updates(straight):
    """The student stays as it is while its critic learns, and its average moves with its own updates alone."""
    saved = [runs.checkpoint(straight, step) for step in (2, 4, 6, 8)]
    student, critic = ("ema_state_dict", "module.trained", [True, False, True]), ("state_dict", "critics", 3 * [True])
    for name, prefix, moves in (student, critic):
        states = [parts(each[name], prefix) for each in saved]
        assert all(states)
        for (before, after), moved in zip(pairwise(states), moves, strict=True):
            assert any(not torch.equal(before[key], after[key]) for key in before) == moved, prefix
    averages = [parts(each["state_dict"], "trained") for each in saved]  # MMEngine saves them in the student's place
    assert_equal(averages[1], averages[2])
    assert any(not torch.equal(averages[2][key], averages[3][key]) for key in averages[0])


def test_each_network_has_its_own_lines_in_the_log(straight):
    (log,) = straight.glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"loss_fake_score", "grad_norm_fake_score"} <= lines[1].keys()
    assert "loss_task" not in lines[0]
    assert {"loss_task", "grad_norm"} <= lines[3].keys()


def test_a_run_with_a_critic_resumes_exactly_in_a_turn_of_its_critic(shallow_sdxl, straight, tmp_path):
    stopped = write(tmp_path / "stopped.py", shallow_sdxl, "ratio=2, steps=2", custom="[dict(type='StopAt', step=7)]")
    assert StopAt
    with pytest.raises(RuntimeError, match="stopped"):
        launch(stopped, tmp_path / "run")
    resumed = launch(write(tmp_path / "matching.py", shallow_sdxl, "ratio=2, steps=2"), tmp_path / "run", "auto")
    ours, theirs = (runs.checkpoint(folder, 8) for folder in (resumed, straight))
    for part in ("state_dict", "ema_state_dict", "optimizer"):
        assert not runs.differences(ours[part], theirs[part]), part


@pytest.mark.processes
def test_two_ranks_resume_exactly(shallow_sdxl, tmp_path):
    def train(name, iters, *args):
        file = write(tmp_path / f"{name}.py", shallow_sdxl, "ratio=2, steps=2", iters=iters, custom="[dict(type='Probe')]")
        options = (file, "--launcher", "pytorch", "--work-dir", tmp_path / name, *args)
        runs.two_ranks(runs.program("train", options), **PLACES)
        return tmp_path / name

    straight = train("straight", 8)
    ranks = [json.loads((straight / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    (tmp_path / "resumed").mkdir()
    shutil.copy(straight / "iter_6.pth", tmp_path / "resumed" / "iter_6.pth")
    (tmp_path / "resumed" / "last_checkpoint").write_text("iter_6.pth")
    resumed = train("resumed", 8, "--resume")
    ours, theirs = (runs.checkpoint(folder, 8) for folder in (resumed, straight))
    for part in ("state_dict", "ema_state_dict", "optimizer"):
        assert not runs.differences(ours[part], theirs[part]), part


SAMPLED = dict(
    one_step=("ratio=1", "DDIMScheduler", 1),
    renoised=("steps=2", "LCMScheduler", 2),
    straight=("steps=2, match='trajectory'", "DDIMScheduler", 2),
)


@pytest.mark.parametrize("name", SAMPLED)
def test_the_exported_student_draws_in_plain_diffusers_what_validation_draws(shallow_sdxl, tmp_path, name):
    method, scheduler, steps = SAMPLED[name]
    file = write(tmp_path / "run.py", shallow_sdxl, method, iters=1, accumulate=1)
    run = launch(file, tmp_path / "run")
    ended = runs.tool("export", file, tmp_path / "out", "--dtype", "float32", "--cfg-options", f"work_dir={run}")
    assert ended.code == 0, ended
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.scheduler).__name__ == scheduler
    config = load_config(str(file))
    for checkpoint in (run / "unet", run / "iter_1.pth") if name == "one_step" else (run / "unet",):
        model = Trained(config, str(checkpoint)).load()
        assert len(model.critics) == 0
        model.family.decode = lambda pipeline, latents: latents
        ours = model.sample(["a red circle"], [3])
        generator = [torch.Generator().manual_seed(3)]
        options = dict(num_inference_steps=steps, guidance_scale=1.0, output_type="latent")
        theirs = pipeline(["a red circle"], generator=generator, **options).images
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    plain = diffusers.UNet2DConditionModel.from_pretrained(run / "unet").state_dict()
    assert plain.keys() == Trained(config, str(run / "unet")).load().student.state_dict().keys()


def test_an_adapter_of_three_roles_leaves_the_students_alone(shallow_sdxl, tmp_path):
    file = write(tmp_path / "lora.py", shallow_sdxl, f"fake_score={LORA}", ADAPTER, iters=2, accumulate=1)
    run = launch(file, tmp_path / "run")
    files = sorted(path.name for path in (run / "step1").iterdir())
    assert files == ["pytorch_lora_weights.safetensors"]
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(shallow_sdxl)
    pipeline.load_lora_weights(run / "step1")
    model = Trained(load_config(str(file)), str(run / "step1")).load()
    ours = model.trained["unet"].state_dict()
    found = pipeline.unet.state_dict()
    assert sum("lora" in name for name in found) == len(ours)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(wrapper="paramwise_cfg=dict(heads=dict(lr=1.0))"), ["paramwise_cfg.heads", "it trains student, fake_score"]),
        (dict(wrapper="paramwise_cfg=dict(fake_score=dict(rl=1.0))"), ["fake_score.rl is no setting of the optimizer"]),
        (dict(wrapper="type='OptimWrapper'"), ["knows no turns of fake_score", "MixedPrecision"]),
        (dict(method="ratio=0"), ["model.method.ratio=0", "1 or more"]),
        (dict(method="warmup=3, ratio=2"), ["train_cfg.max_iters=8 makes 4 updates", "first in update 5"]),
        (
            dict(student=f"dict(keep={KEEP}, adapter={LORA})", method=f"fake_score={LORA}"),
            ["is a cut", "full copy"],
        ),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_written(shallow_sdxl, tmp_path, changes, words):
    file = write(tmp_path / "run.py", shallow_sdxl, **changes)
    with pytest.raises(InputError) as refused:
        check(load_config(str(file), None, str(tmp_path / "run")))
    assert all(word in str(refused.value) for word in words), refused.value
    assert not (tmp_path / "run").exists()


def test_captions_alone_are_enough(shallow_sdxl, tmp_path):
    """The checks pass a training set without pictures, and a run with it is one with latents of the native size."""
    (tmp_path / "captions.txt").write_text("a red circle\na blue square\na dog\n")
    file = write(tmp_path / "run.py", shallow_sdxl, iters=2, accumulate=1, method="ratio=1")
    dataset = f"train_dataloader['dataset'] = dict(_delete_=True, type='CaptionList', source='{tmp_path}/captions.txt')\n"
    file.write_text(file.read_text() + dataset)
    run = launch(file, tmp_path / "run")
    assert (run / "unet" / "config.json").exists()
