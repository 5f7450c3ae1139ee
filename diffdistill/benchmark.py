"""Measurements of whole runs and of single steps; `tools/benchmark.py` is their command line."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner

from diffdistill.check import check
from diffdistill.config import config_root, find_config
from diffdistill.errors import InputError
from diffdistill.hooks.common import distiller_of
from diffdistill.protocol import check_same, split


def run_all(configs: Sequence[str], seeds: Sequence[int], options: Sequence[str], folder: str) -> list[dict]:
    """Train every config with every seed, one after the other, in processes of their own; gives their `results.json`.

    A run that has finished is not run again: remove its folder for that.
    """
    results = []
    for name in configs:
        config = find_config(name)
        for seed in seeds:
            run = Path(folder, f"{config.stem}_seed{seed}")
            if not (run / "results.json").exists():
                train = config_root().parent / "tools" / "train.py"
                arguments = [config, "--work-dir", run, "--cfg-options", f"randomness.seed={seed}", *options]
                run.mkdir(parents=True, exist_ok=True)
                with (run / "log.txt").open("w") as log:
                    code = subprocess.call([sys.executable, train, *arguments], stdout=log, stderr=subprocess.STDOUT)
                if code:
                    raise InputError(f"{config.name} with seed {seed} ended with status {code}; see {run / 'log.txt'}")
            results.append(json.loads((run / "results.json").read_text()) | dict(config=config.stem))
    return results


def accuracy_table(results: Sequence[dict], metric: str = "accuracy") -> list[dict]:
    """One row a config: teacher, untrained and trained student, in percent, the last one for every seed.

    Rows of one `protocol` stand together; a config whose runs were measured by several has a row for each.
    """
    groups = split(results, lambda result: check_same(result["validation"], metric))
    return [row for protocol, members in groups for row in rows_of(members, metric, protocol)]


def rows_of(results: Sequence[dict], metric: str, protocol: dict) -> list[dict]:
    rows: dict[str, dict] = {}
    for result in results:
        records = result["validation"]
        row = rows.setdefault(result["config"], dict(config=result["config"], steps=result["steps"], teacher=None, seeds={}))
        row["protocol"] = protocol
        row["parameters"] = result["student"]["parameters"]
        for record in records:
            if record["model"] == "teacher":
                row["teacher"] = record[metric]
            elif record["step"] == 0:
                row["untrained"] = record[metric]
        row["seeds"][result["seed"]] = records[-1][metric]
        row["n"] = int(records[-1]["n"])
        row["seconds_per_step"] = result["seconds_per_step"]
    for row in rows.values():
        row["median"] = statistics.median(row["seeds"].values())
    return list(rows.values())


def seconds(function: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def step_costs(config: Config, rounds: int = 20) -> dict[str, float]:
    """Median seconds of a training iteration and its parts, and of a bare loop's step, measured in turn in every round.

    "bare" is the step that plain torch and diffusers would take on encoded inputs: teacher forward, student forward, the
    task and output losses, backward, and the config's optimizer. "step" is the distiller's on the same inputs, with all its
    losses; "iteration" adds what the reference leaves out: loading and encoding the batch.
    """
    plan = check(config)
    if not plan.needs_teacher:
        raise InputError("the step of a config is measured against one with a teacher, and this config keeps none in memory")
    config.default_hooks = {
        name: hook for name, hook in config.default_hooks.items() if name not in ("samples", "export", "ema")
    }
    config.custom_hooks = []
    runner = Runner.from_cfg(config)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    distiller, wrapper, batches = distiller_of(runner).train(), runner.optim_wrapper, runner.train_loop.dataloader_iterator
    device, schedule, encode = next(distiller.parameters()).device.type, distiller.noise_schedule, distiller.encode
    batch = distiller.data_preprocessor(next(batches))
    latents, condition = encode(batch)
    noise, timesteps = torch.randn_like(latents), torch.randint(len(schedule), latents.shape[:1], device=latents.device)
    noisy = schedule.add_noise(latents, noise, timesteps)

    def teacher_forward():
        with torch.no_grad(), distiller.denoiser(teacher=True) as teacher:
            return teacher(noisy.to(distiller.dtype), timesteps, **condition, return_dict=False)[0]

    def bare():
        target = teacher_forward()
        with distiller.autocast():
            prediction = distiller.student(noisy, timesteps, **condition, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), noise) + F.mse_loss(prediction.float(), target.float())
        loss.backward()
        wrapper.optimizer.step()
        wrapper.optimizer.zero_grad()

    def step():
        distiller.encode = lambda batch: (latents, condition)
        distiller.train_step(batch, wrapper)
        distiller.encode = encode

    parts = dict(
        load=lambda: next(batches),
        encode=lambda: encode(batch),
        teacher=teacher_forward,
        bare=bare,
        step=step,
        iteration=lambda: distiller.train_step(next(batches), wrapper),
    )
    times: dict[str, list[float]] = {name: [] for name in parts}
    for n in range(rounds + 2):
        for name, part in parts.items():
            cost = seconds(part, device)
            if n >= 2:  # the first rounds warm up
                times[name].append(cost)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["bare"], strict=True))
        for name in ("step", "iteration")
    }
    return dict(**medians, step_ratio=ratios["step"], iteration_ratio=ratios["iteration"], rounds=rounds)
