"""Whole runs with a discriminator: it is saved, resumed and wrapped for ranks, and leaves with nothing that is exported."""

import json
import shutil
from types import MappingProxyType

import pytest
import runs
import torch
from diffusers import UNet2DConditionModel
from staged import assert_equal, launch, weights

from diffdistill.config.read import find_config
from diffdistill.engine import sharded_checkpoint

TEXT = """
_base_ = ["{base}"]
model = dict(
    teacher=dict(checkpoint="{teacher}"),
    student=dict(keep=dict(_delete_=True)),
    method=dict(_delete_=True, **{method}),
    losses=dict(task={task}, output=None, feature=None, adversarial=dict(type="AdversarialLoss", **{adversarial})),
)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
train_cfg = dict(max_iters=4, val_interval=100)
param_scheduler = None
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(discriminator=dict(lr=5e-3, max_norm=1.0)))
default_hooks = dict(
    checkpoint=dict(interval=2),
    samples=dict(prompts=None),
    baseline=None,
    logger=dict(interval=1),
    ema=dict(type="EMAHook", momentum=0.5),
)
custom_hooks = {custom}
"""
LADD = dict(type="DenoisingKD", steps=1)
DMD2 = dict(type="DistributionMatching", steps=1, ratio=2)
ON_FAKE = dict(network="fake_score", kind="softplus", weight=5e-3, critic_weight=1e-2, head=dict(type="StridedHead"))


def write(file, teacher, method=LADD, adversarial=MappingProxyType({}), task=None, custom="[]"):
    options = dict(teacher=teacher, method=method, adversarial=dict(adversarial), task=task, custom=custom)
    file.write_text(TEXT.format(base=find_config("small_sd_xl_shapes"), **options))
    return file


RUNS = {"LADD": (LADD, dict(r1=100.0), None), "DMD2": (DMD2, ON_FAKE, dict(type="TaskLoss", weight=0.5))}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_a_discriminator_resumes_exactly(name, shallow_sdxl, tmp_path):
    options = RUNS[name]
    straight = launch(write(tmp_path / "a.py", shallow_sdxl, *options), tmp_path / "straight")
    stopped = write(tmp_path / "a.py", shallow_sdxl, *options, custom="[dict(type='StopAt', step=3)]")
    with pytest.raises(RuntimeError, match="stopped"):
        launch(stopped, tmp_path / "resumed")
    resumed = launch(write(tmp_path / "a.py", shallow_sdxl, *options), tmp_path / "resumed", "auto")
    ours, theirs = (runs.checkpoint(folder, 4) for folder in (straight, resumed))
    assert not runs.differences(ours["state_dict"], theirs["state_dict"])
    assert not runs.differences(ours["optimizer"], theirs["optimizer"])
    assert_equal(weights(straight / "unet"), weights(resumed / "unet"))

    half = runs.checkpoint(straight, 2)["state_dict"]
    heads = [name for name in half if name.startswith("critics.discriminator.")]
    assert any(not torch.equal(half[name], ours["state_dict"][name]) for name in heads)
    groups = {group["network"]: group for group in ours["optimizer"]["param_groups"]}
    assert (groups["student"]["lr"], groups["discriminator"]["lr"]) == (1e-3, 5e-3)
    assert not any("critics" in name for name in ours["ema_state_dict"])
    plain = UNet2DConditionModel.from_pretrained(shallow_sdxl, subfolder="unet").state_dict()
    assert weights(straight / "unet").keys() == plain.keys()


@pytest.mark.processes
def test_two_ranks_share_a_discriminator(shallow_sdxl, tmp_path):
    file = write(tmp_path / "a.py", shallow_sdxl, task=dict(type="TaskLoss"), custom="[dict(type='Probe')]")
    file.write_text(file.read_text() + 'custom_imports = dict(imports=["diffdistill.engine", "probe"])\n')

    def train(work_dir, *more):
        args = (file, "--launcher", "pytorch", "--work-dir", work_dir, *more)
        runs.two_ranks(runs.program("train", args), PYTHONPATH=f"{runs.ROOT}:{runs.ROOT}/tests/helpers")
        ranks = [json.loads((work_dir / f"rank{rank}.json").read_text()) for rank in (0, 1)]
        assert ranks[0]["weights"] == ranks[1]["weights"]
        assert ranks[0]["losses"] == ranks[1]["losses"]  # as they are logged: averaged
        return runs.checkpoint(work_dir, 4)

    straight = train(tmp_path / "straight")
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    (resumed / "iter_2.pth").write_bytes((tmp_path / "straight" / "iter_2.pth").read_bytes())
    (resumed / "last_checkpoint").write_text("iter_2.pth")
    again = train(resumed, "--resume")
    assert any(name.startswith("critics.discriminator.") for name in straight["state_dict"])
    for part in ("state_dict", "optimizer"):
        assert not runs.differences(straight[part], again[part])


@pytest.mark.processes
def test_ranks_with_a_discriminator_in_pieces_resume_exactly(shallow_sdxl, tmp_path):
    file = write(tmp_path / "a.py", shallow_sdxl, *RUNS["DMD2"])

    def train(work_dir, *more):
        sharded = runs.options(model_wrapper_cfg__type="FullyShard")
        runs.two_ranks(runs.program("train", (file, "--launcher", "pytorch", "--work-dir", work_dir, *more, *sharded)))
        return sharded_checkpoint.load(work_dir / "iter_4"), weights(work_dir / "unet")

    straight, student = train(tmp_path / "straight")
    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "straight" / "iter_2", resumed / "iter_2")
    (resumed / "last_checkpoint").write_text("iter_2")
    again, same = train(resumed, "--resume")
    assert any(name.startswith("critics.discriminator.") for name in straight["state_dict"])
    for part in ("state_dict", "optimizer"):
        assert not runs.differences(straight[part], again[part])
    assert_equal(student, same)
