"""What must hold before ranks are started; nothing is loaded by then."""

import os
import stat

import pytest
import runs

from diffdistill.config.check import check
from diffdistill.config.read import load_config
from diffdistill.engine import launch
from diffdistill.errors import InputError

RANKS = dict(RANK="0", WORLD_SIZE="4", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")
SHARDED = {"model_wrapper_cfg": dict(type="FullyShard")}
TEACHER = {"model.teacher.checkpoint": "diffdistill::sdxl_shapes"}
ADAPTER = dict(type="LoraConfig", r=2, target_modules=["to_q"])


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, ["--launcher", "pytorch"], "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not set"),
        ({}, ["--launcher", "slurm"], "SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_NODELIST are not set"),
        ({"model_wrapper_cfg__type": "FullyShard"}, [], "--launcher=none starts one"),
        (
            {"model_wrapper_cfg__type": "FullyShard", "model_wrapper_cfg__reshard": 1},
            [],
            "model_wrapper_cfg.reshard is not a key",
        ),
        ({"model_wrapper_cfg__type": "FullyShart"}, [], "the nearest: FullyShard"),
    ],
)
def test_ranks_that_are_not_there_are_one_line(tmp_path, monkeypatch, changes, options, said):
    for name in launch.TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    ended = runs.tool(
        "train", runs.SHAPES, "--work-dir", tmp_path / "run", *options, *(runs.options(**changes) if changes else [])
    )
    assert ended.code == 2, ended
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_dataloader.dataset.length": 3}, "has 3 samples for 4 ranks; start at most 3"),
        (
            {
                "train_dataloader.dataset.length": 20,
                "train_dataloader.drop_last": True,
                "train_dataloader.sampler.type": "DefaultSampler",
            },
            "each of 4 ranks has 5 of 20 samples",
        ),
        (
            SHARDED | {"optim_wrapper.optimizer": dict(_delete_=True, type="Adafactor", lr=1e-3, relative_step=False)},
            "type=Adafactor does not know parameters",
        ),
        (
            SHARDED
            | {"model.student.adapter": ADAPTER, "model.method": dict(type="BlockRecovery", _delete_=True)}
            | {"model.losses": dict(_delete_=True, feature=dict(type="FeatureKD"))},
            "train the student whole",
        ),
        (
            SHARDED | {"model.losses": dict(_delete_=True, gan=dict(type="AdversarialLoss", r1=1e-5, r1_sigma=None))},
            r"model.losses.gan \(AdversarialLoss\) differentiates its critic twice with r1_sigma=None",
        ),
    ],
)
def test_what_several_ranks_cannot_do_is_one_line(tmp_path, monkeypatch, changes, said):
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)
    config = load_config(runs.SHAPES, changes | {"launcher": "pytorch"}, str(tmp_path / "run"))
    with pytest.raises(InputError, match=said):
        check(config)


def test_slurm_names_the_ranks(tmp_path, monkeypatch):
    """The first host that `scontrol` lists is where they meet."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames gpu[7-8]" ] && printf "gpu7\\ngpu8\\n"\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for name in launch.TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    given = dict(SLURM_PROCID="5", SLURM_NTASKS="8", SLURM_LOCALID="1", SLURM_NODELIST="gpu[7-8]")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert launch.count_ranks("slurm") == 8
    launch.name_slurm_ranks()
    found = {name: os.environ[name] for name in launch.TORCHRUN}
    assert found == dict(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", MASTER_ADDR="gpu7", MASTER_PORT="29500")
    for name in launch.TORCHRUN:
        del os.environ[name]  # by hand: monkeypatch would put back what it deletes
