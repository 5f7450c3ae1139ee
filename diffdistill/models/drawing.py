"""Pictures of a student or its teacher, drawn by the pipeline of diffusers around it."""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import SchedulerMixin
from torch import Tensor

from diffdistill.models.plan import scheduler_class
from diffdistill.noise import NoiseSchedule


class Drawing:
    """How a `DiffusionModel` is sampled."""

    def exported_scheduler(self) -> SchedulerMixin:
        """The scheduler of a pipeline around the student: the one that it was trained for, or else the teacher's."""
        return self.build_scheduler(self.student_sampling.get("scheduler"), self.noise_schedule)

    def build_scheduler(self, chosen: str | dict | None, schedule: NoiseSchedule) -> SchedulerMixin:
        """A scheduler with the prediction type of `schedule`: the pipeline's own, or the class or config `chosen`."""
        base = self.frozen.pipeline.scheduler
        chosen = dict(type=chosen) if isinstance(chosen, str) else dict(chosen or dict(type=type(base).__name__))
        kind = scheduler_class(chosen.pop("type"))
        changes = schedule.scheduler_changes(kind, "model.sampling.scheduler")
        if kind is not type(base) and "clip_sample" in inspect.signature(kind).parameters:
            changes["clip_sample"] = False  # diffusers' default for DDIM and DDPM is that of pixels; latents exceed 1
        return kind.from_config(base.config, **{**changes, **chosen})

    def sample_with(self, **options) -> None:
        """Sample teacher and student with these options from now on, over those of `sampling` and of the method."""
        self.asked.update(options)

    def scheduler(self, teacher: bool = False) -> tuple[SchedulerMixin, dict]:
        """The diffusers scheduler to sample the student (or the teacher) with, and the other arguments of the pipeline."""
        options = {**self.sampling, **({} if teacher else self.student_sampling), **self.asked}
        schedule = self.teacher_schedule if teacher else self.noise_schedule
        return self.build_scheduler(options.pop("scheduler", None), schedule), options

    @torch.no_grad()
    def sample(self, captions: Sequence[str], seeds: Sequence[int], teacher: bool = False) -> np.ndarray:
        """Pictures (B, H, W, 3), uint8, of the student or the teacher; the initial noise of each follows from its seed."""
        return self.family.decode(self.frozen.whole(self.device), self.sample_latents(captions, seeds, teacher))

    @torch.no_grad()
    def sample_latents(self, captions: Sequence[str], seeds: Sequence[int], teacher: bool = False) -> Tensor:
        """The scaled latents (B, C, h, w) of the pictures that `sample` returns."""
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        training = self.training
        self.eval()
        with self.denoiser(teacher) as denoiser, self.autocast(), torch.random.fork_rng():
            torch.manual_seed(int(seeds[0]))  # some samplers, such as FlowMatchLCMScheduler in SD3's pipeline, draw from it
            pipeline = self.family.assemble(self.frozen.whole(self.device), denoiser)
            pipeline.scheduler, options = self.scheduler(teacher)
            options = {**self.family.call_options, **options}
            if isinstance(options.get("negative_prompt"), str):  # not all pipelines repeat it for each caption
                options["negative_prompt"] = [options["negative_prompt"]] * len(captions)
            latents = pipeline(prompt=list(captions), generator=generators, output_type="latent", **options).images
        self.train(training)
        size = (options.get(side) or self.family.native_size for side in ("height", "width"))
        return self.family.sampled_latents(latents, *size)
