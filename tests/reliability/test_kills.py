"""Runs and caches that are killed at random moments, and then resumed: they leave what unbroken ones leave, to the bit."""

import itertools
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import caching
import pytest
import runs
import shards
import torch
from safetensors.torch import load_file

pytestmark = [pytest.mark.reliability, pytest.mark.processes]

KILLS = 2  # of every run, unless it ends before
CACHE_KILLS = 5  # of every cache
# Logs, pages, and what holds times or the folder's name; half a class picture stays a minute, as runs share their folder.
NOT_COMPARED = re.compile(
    r"/\d{8}_\d{6}/|report\.(html|json)$|last_checkpoint$|results\.json$|\.py$|/class_\d+\.\d+\.partial$"
)
PARTS = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
COMMON = """
_base_ = ["{root}/configs/shapes/small_sd_xl_shapes_task_only.py"]
model = dict(teacher=dict(checkpoint="{teacher}"), sampling=dict(num_inference_steps=1))
train_cfg = dict(max_iters=6, val_interval=2)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
default_hooks = dict(
    checkpoint=dict(interval=2, max_keep_ckpts=1),
    samples=dict(prompts=["a red circle"], interval=3),
    logger=dict(interval=1),
    report=dict(interval=2),
)
"""
ALONE = """
optim_wrapper = dict(accumulative_counts=2)
default_hooks["ema"] = dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.5)
train_dataloader["num_workers"] = 1
"""
STAGES = """
train_cfg = dict(max_iters=3, val_interval=3)
stages = [dict(name="first"), dict(name="second", optim_wrapper=dict(optimizer=dict(lr=1e-4)))]
"""
ADAPTER = """
model["student"] = dict(
    keep=dict(_delete_=True), adapter=dict(type="LoraConfig", r=2, target_modules=["to_q", "to_v"]))
train_dataloader["dataset"] = dict(
    _delete_=True, type="DreamBoothDataset", source="diffdistill::star_pictures", prompt="a large s",
    class_images=dict(prompt=["a red circle", "a blue square"], count=7, batch_size=2),
    pipeline=[dict(type="ResizeCrop", size=32), dict(type="PackInputs")])
default_hooks["export"] = dict(interval=2)
"""
STREAM = """
train_dataloader = dict(num_workers=2, persistent_workers=True, dataset=dict(
    _delete_=True, type="CaptionStream", source="{shards}", shuffle_buffer=4,
    pipeline=[dict(type="ResizeCrop", size=32, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")]))
train_dataloader["batch_size"] = 2
"""
KINDS = dict(alone=ALONE, stages=STAGES, adapter=ADAPTER, stream=STREAM)


@dataclass
class Kind:
    """A kind of run: its config, what an unbroken run has left, and its file operations."""

    name: str
    command: list
    straight: Path
    operations: list[str]


@pytest.fixture(scope="module", params=KINDS.items(), ids=lambda item: item[0])
def kind(request, thin_sdxl, tmp_path_factory) -> Kind:
    name, text = request.param
    folder = tmp_path_factory.mktemp(name)
    config = folder / f"{name}.py"
    if name == "stream":
        text = text.format(shards=shards.write_shards(folder / "shards", [5, 3, 4]))
    config.write_text(COMMON.format(root=runs.ROOT, teacher=thin_sdxl) + text)
    command = [config, "--resume"]
    log = folder / "operations"
    ended = run(folder / "straight" / "run", command, -1, 0, log)
    assert ended.code == 0, ended
    return Kind(name, command, folder / "straight" / "run", log.read_text().splitlines())


def run(work_dir: Path, command: list, moment: int, delay: float, log: Path) -> runs.Ended:
    """A training in a process of its own, killed at a moment."""
    return killed("train", [*command, "--work-dir", work_dir], work_dir.parent, moment, delay, log)


def killed(tool: str, command: list, folder: Path, moment: int, delay: float, log: Path) -> runs.Ended:
    """A tool in a process of its own, killed at a moment of its operations in `folder`."""
    words = [folder, moment, delay, log, runs.ROOT / "tools" / f"{tool}.py", *command]
    program = [str(runs.ROOT / "tests" / "helpers" / "killing.py"), *map(str, words)]
    return runs.finish(runs.WarmProcess(program, runs.ROOT, runs.environment({})))


@pytest.mark.parametrize("trial", range(6))
def test_a_killed_run_ends_as_one_that_was_not(kind, trial, trials, tmp_path):
    chance = random.Random(f"{kind.name} {trial}")
    work_dir, log = tmp_path / "new" / "run", tmp_path / "operations"
    for attempt in itertools.count():
        last = attempt >= KILLS
        moment = -1 if last else chance.randrange(len(kind.operations) // (attempt + 1))
        delay = chance.choice([0, chance.uniform(0, 0.3)])
        ended = run(work_dir, kind.command, moment, delay, tmp_path / "all" if last else log)
        if ended.code == 0:
            break
        assert ended.code == -9, str(ended)
    kills = log.read_text().splitlines() if log.exists() else []
    differ = differences(kind.straight, work_dir)
    trials.append(dict(kind=kind.name, kills=[place(each) for each in kills[:attempt]], differ=len(differ)))
    assert not differ, kills


def differences(straight: Path, other: Path) -> list[str]:
    """What two folders of runs do not share: files, but for logs and pages, and tensors and figures, bit for bit."""
    ours, theirs = contents(straight), contents(other)
    found = sorted(f"{file} is in one alone" for file in ours.keys() ^ theirs.keys())
    for file in sorted(ours.keys() & theirs.keys()):
        found += runs.differences(ours[file], theirs[file], file)
    return found


def contents(run: Path) -> dict:
    """File -> what in it must be the same, of a run's folder and of the class pictures beside it."""
    found = {}
    for path in sorted(run.parent.rglob("*")):
        name = str(path.relative_to(run.parent))
        if path.is_dir() or NOT_COMPARED.search(name):
            continue
        if path.suffix == ".pth":
            saved = torch.load(path, weights_only=True)
            found[name] = {part: saved.get(part) for part in PARTS}
            found[name]["validation"] = saved["message_hub"]["runtime_info"].get("records")
        elif path.suffix == ".safetensors":
            found[name] = load_file(path)
        else:
            found[name] = path.read_bytes().replace(str(run.parent).encode(), b"")
    return found


def place(operation: str) -> str:
    """An operation without its numbers, times and folders of libraries."""
    operation = re.sub(r"\d{8}_\d{6}", "<time>", operation)
    operation = re.sub(r"_[0-9a-f]{8}/", "/", re.sub(r"(iter|step|stage)_?\d+(_\w+)?", r"\1_N", operation))
    return re.sub(r"\d+\.", "N.", operation)


@pytest.fixture(scope="module")
def cached(thin_sdxl, tmp_path_factory):
    """A config, its cache made in one go, and the operations of that on files."""
    folder = tmp_path_factory.mktemp("cached")
    data = caching.write_data(folder / "pictures")
    config = caching.write_config(folder / "config.py", thin_sdxl, data)
    log = folder / "operations"
    ended = killed("cache", [config, folder / "out", "--shard-size", 2], folder / "out", -1, 0, log)
    assert ended.code == 0, ended
    return config, folder / "out", log.read_text().splitlines()


@pytest.mark.parametrize("trial", range(3))
def test_a_cache_that_was_killed_five_times_is_that_of_one_go(cached, trial, trials, tmp_path):
    config, whole, operations = cached
    chance, log, out = random.Random(f"cache {trial}"), tmp_path / "operations", tmp_path / "out"
    command, kills = [config, out, "--shard-size", 2], 0
    while kills < CACHE_KILLS:
        moment, delay = (
            chance.randrange(len(operations) // (CACHE_KILLS - kills)),
            chance.choice([0, chance.uniform(0, 0.3)]),
        )
        ended = killed("cache", command, out, moment, delay, log)
        if ended.code == 0:  # so little was left
            break
        assert ended.code == -9, str(ended)
        kills += 1
    ended = killed("cache", command, out, -1, 0, tmp_path / "all")
    assert ended.code == 0, ended
    differ = runs.differences(caching.content(whole), caching.content(out))
    done = log.read_text().splitlines() if log.exists() else []
    trials.append(dict(kind="cache", kills=[place(each) for each in done[:kills]], differ=len(differ)))
    assert not differ, done


def test_a_kill_is_one(tmp_path):
    """The program that the trials rest on: it dies before the operation that it names."""
    program = tmp_path / "program.py"
    program.write_text(f"for name in 'abc':\n    open({str(tmp_path / 'folder')!r} + '/' + name, 'w').close()\n")
    (tmp_path / "folder").mkdir()
    words = [tmp_path / "folder", 2, 0, tmp_path / "log", program]
    helper = [str(runs.ROOT / "tests" / "helpers" / "killing.py"), *map(str, words)]
    ended = runs.finish(runs.WarmProcess(helper, runs.ROOT, runs.environment({})))
    assert ended.code == -9, ended
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "b"]
    assert (tmp_path / "log").read_text() == "open c\n"
    shutil.rmtree(tmp_path / "folder")
