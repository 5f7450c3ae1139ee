"""Runs of one process, of two by DDP and of two and four in pieces: the same, and resumed on another number of ranks."""

import errno
import json
import os
import pickle
import shutil
import signal
from pathlib import Path

import pytest
import runs
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from diffdistill.engine import sharded_checkpoint
from diffdistill.errors import InputError
from diffdistill.runs.train import in_one_line

pytestmark = pytest.mark.processes
STEPS = 6  # of which two are an update
CONFIG = f"""_base_ = ["{runs.ROOT}/configs/shapes/small_sd_xl_shapes.py"]
custom_imports = dict(imports=["diffdistill.engine", "fixed"])
model = dict(
    type="FixedDistiller",
    teacher=dict(checkpoint="TEACHER"),
    method=dict(type="FixedDenoisingKD"),
    losses=dict(feature=dict(normalize=False)),  # the power of a batch is not the mean of its parts'
    sampling=dict(num_inference_steps=1),
)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=[]))
val_dataloader = dict(batch_size=2, dataset=dict(length=5))
val_evaluator = dict(_delete_=True, type="TeacherAgreement", timesteps=[500], pictures=3)
train_cfg = dict(max_iters={STEPS}, val_interval={STEPS})
optim_wrapper = dict(accumulative_counts=2, optimizer=dict(lr=1e-4))
param_scheduler = [dict(type="CosineAnnealingLR", T_max={STEPS}, end={STEPS}, by_epoch=False)]
default_hooks = dict(
    logger=dict(interval=1),
    samples=dict(prompts=["a dog"], interval={STEPS}),
    checkpoint=dict(interval=2, max_keep_ckpts=-1),
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.5),
)
"""


@pytest.fixture(scope="module")
def folder(thin_sdxl, tmp_path_factory) -> Path:
    """A folder with a config of a run, and one that shards it."""
    folder = tmp_path_factory.mktemp("sharded_runs")
    (folder / "whole.py").write_text(CONFIG.replace("TEACHER", str(thin_sdxl)))
    (folder / "sharded.py").write_text('_base_ = ["whole.py"]\nmodel_wrapper_cfg = dict(type="FullyShard")\n')
    return folder


def train(folder: Path, config: str, name: str, ranks: int, *args: str, **changes) -> Path:
    """Train on so many ranks, with four samples together; 0 is this process. Returns the folder of the run."""
    changes["train_dataloader__batch_size"] = 4 // max(ranks, 1)
    options = [folder / config, "--work-dir", folder / name, *args, *runs.options(**changes)]
    if not ranks:
        assert not runs.tool("train", *options).code
        return folder / name
    places = f"{runs.ROOT}:{runs.ROOT}/tests/helpers"
    started = runs.start_ranks(runs.program("train", [*options, "--launcher", "pytorch"]), ranks, PYTHONPATH=places)
    ended = [runs.finish(process) for process in started]
    assert not any(process.code for process in ended), "\n".join(map(str, ended))
    return folder / name


@pytest.fixture(scope="module")
def one(folder) -> Path:
    return train(folder, "whole.py", "one", 0)


@pytest.fixture(scope="module")
def in_pieces(folder) -> Path:
    return train(folder, "sharded.py", "in_pieces", 2)


@pytest.fixture(scope="module")
def by_ddp(folder) -> Path:
    return train(folder, "whole.py", "by_ddp", 2)


@pytest.fixture(scope="module")
def resumed(folder, in_pieces) -> Path:
    """Two ranks, in pieces, until step 2; then one process with whole models until 4; then four ranks, in pieces."""
    run = folder / "resumed"
    shutil.copytree(in_pieces / "iter_2", run / "iter_2")
    (run / "last_checkpoint").write_text("iter_2")
    train(folder, "whole.py", "resumed", 0, "--resume", train_cfg__max_iters=4)
    assert (run / "iter_4.pth").is_file()
    return train(folder, "sharded.py", "resumed", 4, "--resume")


def read(checkpoint: Path) -> dict:
    """A checkpoint, whatever its kind."""
    if checkpoint.is_dir():
        return sharded_checkpoint.load(checkpoint)
    return torch.load(checkpoint, weights_only=True)


def differ(ours: dict, theirs: dict) -> float:
    """The largest difference of two dicts of tensors."""
    assert ours.keys() == theirs.keys()
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in ours)


RUNS = ["by_ddp", "in_pieces", "resumed"]


def log_of(run: Path) -> dict[int, dict]:
    """Step -> what the last start of a run has logged of it."""
    file = sorted(run.glob("*/vis_data/scalars.json"))[-1]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line["iter"]: line for line in lines if "loss" in line}


@pytest.mark.parametrize("name", RUNS)
def test_ranks_together_learn_what_one_does(name, one, request):
    """In fp32, with the same samples in every step: what is trained, its average, and AdamW's moments."""
    checkpoints = [read(next(run.glob(f"iter_{STEPS}*"))) for run in (request.getfixturevalue(name), one)]
    ours, theirs = checkpoints
    assert differ(ours["state_dict"], theirs["state_dict"]) < 1e-5  # the average
    assert differ(ours["ema_state_dict"], theirs["ema_state_dict"]) < 1e-5
    for mine, other in zip(ours["optimizer"]["state"].values(), theirs["optimizer"]["state"].values(), strict=True):
        assert differ(mine, other) < 1e-5
    assert ours["optimizer"]["param_groups"][0]["lr"] == theirs["optimizer"]["param_groups"][0]["lr"]
    assert ours["param_schedulers"][0]["last_step"] == theirs["param_schedulers"][0]["last_step"]
    exported = [load_file(run / "unet" / "diffusion_pytorch_model.safetensors") for run in (one.parent / name, one)]
    assert differ(*exported) < 1e-5


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_of_all_ranks(name, one, request):
    ours, theirs = log_of(request.getfixturevalue(name)), log_of(one)
    assert ours
    for step, line in ours.items():
        for key in ("loss", "loss_task", "loss_output", "loss_feature"):
            assert line[key] == pytest.approx(theirs[step][key], abs=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_a_validation_over_ranks_is_that_of_one(name, one, request):
    """Of five captions, of which three are compared: neither is a multiple of the ranks."""
    ours, theirs = (
        json.loads((run / "results.json").read_text())["validation"] for run in (request.getfixturevalue(name), one)
    )
    (mine,) = (record for record in ours if record["step"] == STEPS)
    (other,) = (record for record in theirs if record["step"] == STEPS)
    assert other["latent_mse"] > 1e-4
    assert mine["latent_mse"] == pytest.approx(other["latent_mse"], rel=1e-4)


def test_a_rank_writes_its_pieces(in_pieces):
    files = {path.name: path.stat().st_size for path in (in_pieces / "iter_2").iterdir()}
    assert files.keys() == {".metadata", "run.pth", "__0_0.distcp", "__1_0.distcp"}
    assert files["__0_0.distcp"] == pytest.approx(files["__1_0.distcp"], rel=0.1)
    assert (in_pieces / "last_checkpoint").read_text() == str(in_pieces / f"iter_{STEPS}")
    assert (in_pieces / "samples" / f"step_{STEPS}.png").is_file()


def test_a_checkpoint_in_pieces_is_measured(folder, in_pieces):
    ended = runs.tool("test", folder / "sharded.py", in_pieces / f"iter_{STEPS}", "--json", folder / "measured.json")
    assert ended.code == 0, ended
    (record,) = json.loads((folder / "measured.json").read_text())["results"]
    validation = json.loads((in_pieces / "results.json").read_text())["validation"]
    assert record["latent_mse"] == pytest.approx(validation[-1]["latent_mse"], rel=1e-4)


class Opens:
    """A pickle of it creates a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def other_place(folder: Path) -> None:
    file = folder / ".metadata"
    file.write_bytes(file.read_bytes().replace(b"__0_0.distcp", b"../run.ditcp"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / ".metadata").write_bytes(pickle.dumps(Opens(folder / "x"))), "asks for .*open"),
        (lambda folder: torch.save(dict(meta=Opens(folder / "x")), folder / "run.pth"), "UnpicklingError"),
        (other_place, "names files of its own"),
        (lambda folder: (folder / ".metadata").write_bytes(b""), "damaged"),
        (lambda folder: (folder / ".metadata").unlink(), "damaged"),
        (lambda folder: (folder / "__1_0.distcp").unlink(), "missing or cut off"),
        (lambda folder: (folder / "__1_0.distcp").write_bytes(b"PK"), "missing or cut off"),
        (lambda folder: (folder / "run.pth").write_bytes(b"PK"), "damaged"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_runs_nothing(in_pieces, tmp_path, damage, said):
    checkpoint = shutil.copytree(in_pieces / "iter_2", tmp_path / "iter_2")
    sharded_checkpoint.load_on_meta(checkpoint)
    damage(checkpoint)
    with pytest.raises(InputError, match=said) as refused:
        sharded_checkpoint.load_on_meta(checkpoint)
    assert len(str(refused.value).splitlines()) == 1
    assert not (checkpoint / "x").exists()


DYING = """_base_ = ["sharded.py"]
custom_imports = dict(imports=["diffdistill.engine", "fixed", "dying"])
custom_hooks = [dict(type="Dies", rank=RANK)]
val_dataloader, val_evaluator, val_cfg = None, None, None
train_cfg = dict(max_iters=100)
default_hooks = dict(checkpoint=dict(interval=2))
"""


def test_a_rank_that_is_killed_ends_the_others(folder):
    """Without torchrun, which would end them by itself."""
    (folder / "dying.py").write_text(DYING.replace("RANK", "1"))
    options = [folder / "dying.py", "--work-dir", folder / "killed", "--launcher", "pytorch"]
    places = f"{runs.ROOT}:{runs.ROOT}/tests/helpers"
    first, second = (runs.finish(each) for each in runs.start_ranks(runs.program("train", options), 2, PYTHONPATH=places))
    assert second.code == -signal.SIGKILL
    assert first.code == 2
    (line,) = (line for line in first.err.splitlines() if line.startswith("error:"))
    assert "another rank has ended" in line
    assert f"--resume goes on from {folder / 'killed' / 'iter_2'}" in line
    assert "Traceback" not in first.err


def test_a_worker_that_is_killed_ends_the_run(folder):
    text = DYING.replace("RANK", "None").replace("sharded.py", "whole.py") + "train_dataloader = dict(num_workers=1)\n"
    (folder / "without_worker.py").write_text(text)
    options = [folder / "without_worker.py", "--work-dir", folder / "without_worker"]
    ended = runs.finish(runs.start("train", *options, PYTHONPATH=f"{runs.ROOT}:{runs.ROOT}/tests/helpers"))
    assert ended.code == 2, ended
    (line,) = (line for line in ended.err.splitlines() if line.startswith("error:"))
    assert line.startswith("error: DataLoader worker")
    assert "--resume goes on from" in line
    assert "Traceback" not in ended.err


class HungUp:
    """What a worker hands over of which the rest does not come, as where it is killed in between."""

    def __reduce__(self):
        return end_of_connection, ()


def end_of_connection():
    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def test_a_worker_that_is_killed_while_it_hands_over_ends_the_run(tmp_path):
    """Torch does not see then that it has ended: its connections close before."""
    config = Config(dict(work_dir=str(tmp_path)))
    with pytest.raises(ConnectionResetError) as lost:
        next(iter(torch.utils.data.DataLoader([HungUp()], num_workers=1, collate_fn=list)))
    told = in_one_line(lost.value, config)
    assert isinstance(told, InputError)
    assert str(told).startswith("DataLoader worker has ended while it handed over a batch ([Errno 104] Connection reset by")
    assert "lower train_dataloader.num_workers" in str(told)

    elsewhere = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    assert in_one_line(elsewhere, config) is elsewhere
