"""What a training step costs, part by part, and beside the step of a bare loop."""

import statistics
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import EMAHook
from torch import nn

from diffdistill.benchmarks.cost import forward_flops, matmul_ceiling, model_flops
from diffdistill.benchmarks.machine import machine
from diffdistill.benchmarks.random_weights import random_pipeline
from diffdistill.benchmarks.timing import Part, interleave, median_ratio, memory_rise, ninetieth, resident, seconds
from diffdistill.config.check import check
from diffdistill.config.stages import last_stage
from diffdistill.engine.runner import PlannedRunner, model_of
from diffdistill.errors import InputError
from diffdistill.families.architectures import planning
from diffdistill.models.base import build_model
from diffdistill.models.plan import DTYPES, Plan, warn_of_half_on_cpu
from diffdistill.registry import MODELS

PARTS = ("data", "encode", "teacher", "student", "backward", "optimizer", "rest")
WITHOUT = ("samples", "export", "checkpoint", "baseline")  # hooks that take no part in a step


class Stopwatch:
    """Adds up the seconds spent in single functions and modules during a step."""

    def __init__(self, device: str):
        self.device, self.spent = device, dict.fromkeys(PARTS, 0.0)

    def add(self, part: str, function: Callable, *args, **kwargs):
        """Call `function`, count its seconds as `part`, and return what it returns."""
        result = []
        self.spent[part] += seconds(lambda: result.append(function(*args, **kwargs)), self.device)
        return result[0]

    @contextmanager
    def watch(self, owner: object, name: str, part: str):
        """Inside the block, calls of the method `name` of `owner` count as `part`."""
        method = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: self.add(part, method, *args, **kwargs))
        try:
            yield
        finally:
            delattr(owner, name)


class TrainingStep:
    """A config's training, ready to take single steps: one update a step, whatever the config accumulates."""

    def __init__(self, config: Config, plan: Plan | None, device: str):
        runner = PlannedRunner.around(config, lambda: build_model(config.model, plan))
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        self.wrapper = runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # for its memory, and as the target of methods that need one
                hook.before_run(runner)
        self.distiller, self.batches = model_of(runner).train(), runner.train_loop.dataloader_iterator
        self.device = device
        self.batch = self.distiller.data_preprocessor(next(self.batches))
        with torch.no_grad():  # where a text encoder is trained, its graph would serve for one step alone
            self.latents, self.condition = self.distiller.encode(self.batch)

    @property
    def teachers(self) -> list[nn.Module]:
        """The teacher, and the average of the student where a method asks it; not a teacher that is the student itself."""
        found = (getattr(self.distiller, name, None) for name in ("teacher", "average"))
        return [model for model in found if model is not None and model is not self.distiller.student]

    def iteration(self) -> None:
        """Take one step as a run does, hooks left out: load a batch, encode it, and train on it."""
        self.distiller.train_step(next(self.batches), self.wrapper)

    def encoded(self) -> None:
        """Take one step on inputs that are encoded already."""
        self.distiller.encode = lambda batch: (self.latents, self.condition)
        try:
            self.distiller.train_step(self.batch, self.wrapper)
        finally:
            del self.distiller.encode

    def bare(self) -> None:
        """Take the step that plain torch and diffusers would take on the same inputs: task and output loss, no features."""
        distiller, schedule = self.distiller, self.distiller.noise_schedule
        predict = distiller.family.predict
        noise = torch.randn_like(self.latents)
        cells = torch.randint(len(schedule), self.latents.shape[:1], device=self.latents.device)
        timesteps = schedule.spread(cells, self.latents)
        noisy = schedule.add_noise(self.latents, noise, timesteps)
        if distiller.teacher is not None:
            with torch.no_grad(), distiller.denoiser(teacher=True) as teacher:
                target = predict(teacher, noisy.to(distiller.dtype), timesteps, self.condition).float()
        with distiller.autocast():
            prediction = predict(distiller.student, noisy, timesteps, self.condition).float()
        loss = F.mse_loss(prediction, schedule.target(self.latents, noise, timesteps))
        if distiller.teacher is not None:
            loss = loss + F.mse_loss(prediction, target)
        loss.backward()
        self.wrapper.optimizer.step()
        self.wrapper.optimizer.zero_grad()

    def split(self) -> dict[str, float]:
        """Seconds of the parts of an iteration; "rest" is all that is in none of them: noise, losses, the log."""
        clock = Stopwatch(self.device)
        watched = [(self.distiller, "encode", "encode"), (self.distiller.student, "forward", "student")]
        watched += [(model, "forward", "teacher") for model in self.teachers]
        watched += [(self.wrapper, "backward", "backward"), (self.wrapper, "step", "optimizer")]
        watched += [(self.wrapper, "zero_grad", "optimizer")]

        def step():
            batch = clock.add("data", next, self.batches)
            self.distiller.train_step(batch, self.wrapper)

        with ExitStack() as stack:
            for each in watched:
                stack.enter_context(clock.watch(*each))
            whole = seconds(step, self.device)
        return clock.spent | dict(rest=whole - sum(clock.spent.values()))

    def samples(self) -> dict[str, int]:
        """How many samples go through the denoisers in one iteration: `student`, `student_no_grad` and `teacher`."""
        counts = dict(student=0, student_no_grad=0, teacher=0)

        def count(model, args, kwargs):
            name = "teacher" if model is self.distiller.teacher else "student"
            if name == "student" and not torch.is_grad_enabled():
                name = "student_no_grad"
            counts[name] += len(args[0] if args else next(iter(kwargs.values())))

        distiller = self.distiller
        models = [distiller.student, *self.teachers]
        hooks = [model.register_forward_pre_hook(count, with_kwargs=True) for model in models]
        self.iteration()
        for hook in hooks:
            hook.remove()
        return counts


def measure_training(config: Config, rounds: int = 20, warmup: int = 2, random_weights: bool = False) -> dict:
    """Seconds of a training iteration and its parts, beside a bare loop's step, all measured in turn in every round.

    "bare" is what plain torch and diffusers would do on encoded inputs: teacher forward, student forward, task and output
    loss, backward, and the config's optimizer. "step" is the distiller's on the same inputs, with all its losses and
    clipping; the iteration adds loading and encoding the batch. A config with a `data_cache` is measured beside the same
    without it, whose iteration is "uncached"; the peak of memory is that of the first alone. Nothing is left behind.
    """
    for key, value in dict(rounds=rounds, warmup=warmup).items():
        if value < 1:
            raise InputError(f"--{key} {value}: give 1 or more")
    config = last_stage(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    warn_of_half_on_cpu(config.model.get("dtype", "float32"), "model.dtype")
    with TemporaryDirectory(prefix="diffdistill-benchmark-") as folder:
        if random_weights:
            use_random_weights(config, Path(folder, "teacher"))
        leave_out_the_rest(config, str(Path(folder, "run")))
        step = TrainingStep(config, check(config), device)
        step.iteration()  # which makes the optimizer's state
        peak = peak_memory(step.iteration, device)
        beside = None
        if config.get("data_cache"):
            config.update(data_cache=None, work_dir=str(Path(folder, "beside")))
            beside = TrainingStep(config, check(config), device)
        return measure_step(step, config.train_dataloader.batch_size, rounds, warmup, device, peak, beside)


def leave_out_the_rest(config: Config, folder: str) -> None:
    """Change `config` so that building its run prepares a training step and nothing else."""
    hooks = config.get("default_hooks") or {}
    config.default_hooks = {name: hook for name, hook in hooks.items() if name not in WITHOUT}
    config.custom_hooks = []
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.optim_wrapper.accumulative_counts = 1
    config.log_level, config.work_dir = "ERROR", folder


def use_random_weights(config: Config, folder: Path) -> None:
    """Give `config` a teacher of the same architecture with random weights, written to `folder`."""
    with planning():
        origin = config.model.get("teacher") or config.model.base
        family = MODELS.build(origin)
        pipeline = random_pipeline(family.checkpoint, DTYPES[config.model.get("dtype", "float32")], "cpu", vae=family.vae)
        pipeline.save_pretrained(folder)
    origin.update(checkpoint=str(folder), vae=None, variant=None)
    if config.model.get("student"):
        config.model.student.checkpoint = None


def measure_step(
    step: TrainingStep,
    batch_size: int,
    rounds: int,
    warmup: int,
    device: str,
    peak: int | None,
    beside: TrainingStep | None = None,
) -> dict:
    """Time `step` and its parts, and the iteration of the one `beside` it; return the figures of `measure_training`."""
    splits: list[dict[str, float]] = []
    parts = dict(bare=Part(step.bare), step=Part(step.encoded))
    if beside:
        parts["uncached"] = Part(beside.iteration)
    parts["iteration"] = Part(lambda: splits.append(step.split()))
    times, _ = interleave(parts, rounds, warmup, device, "training")
    splits = splits[-rounds:]  # the others were for warm-up
    times["iteration"] = [sum(split.values()) for split in splits]  # without what the watching itself takes
    iteration = statistics.median(times["iteration"])
    distiller = step.distiller
    student = forward_flops(distiller.student, step.latents.shape)
    teacher = forward_flops(distiller.teacher, step.latents.shape) if distiller.teacher is not None else 0.0
    flops, ceiling = model_flops(student, teacher, step.samples()), matmul_ceiling(distiller.dtype, device)
    rows = [dict(part=name, **spread([split[name] for split in splits])) for name in PARTS]
    rows += [
        dict(part=name, **spread(times[name]), of_bare=median_ratio(times[name], times["bare"])) for name in reversed(parts)
    ]
    return dict(
        rows=rows,
        machine=machine(device),
        rounds=rounds,
        batch_size=batch_size,
        dtype=str(distiller.dtype).removeprefix("torch."),
        images_per_second=batch_size / iteration,
        peak_gb=None if peak is None else peak / 1e9,
        model_tflop=flops / 1e12,
        achieved_tflops=flops / iteration / 1e12,
        ceiling_tflops=ceiling / 1e12,
        utilisation=flops / iteration / ceiling,
    )


def spread(values: list[float]) -> dict[str, float]:
    """The median (`seconds`) and the 90th percentile (`p90`) of `values`."""
    return dict(seconds=statistics.median(values), p90=ninetieth(values))


def peak_memory(function: Callable[[], object], device: str) -> int | None:
    """The most bytes in use while `function` runs, counting what was there before: of the GPU, else of the process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated()
    rise = memory_rise(function, device)
    return None if rise is None else resident("VmHWM")
