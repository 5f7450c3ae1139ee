"""How near a student is to its teacher: on the same noisy latents, and in pictures from the same seeds."""

from collections.abc import Sequence

import torch
from mmengine.dist import get_world_size
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.methods.parts.guidance import guided_sample
from diffdistill.metrics.base import Metric
from diffdistill.metrics.encoders import Encoder
from diffdistill.registry import METRICS


@METRICS.register_module()
class TeacherAgreement(Metric):
    """Mean squared difference of the predictions of teacher and student, by timestep, and how far apart their pictures are.

    The latents are those that the teacher samples for the caption and seed of a picture; noise of that seed is added. Both
    models predict from the same noisy latents at each of `timesteps`, without guidance; but where the method has taught the
    student what the teacher says under a guidance scale, the teacher is guided by it. `latent_mse_t<t>` is the mean of
    (student - teacher)^2 over latents and pictures, in the teacher's prediction type, `latent_mse` the mean of these over
    the timesteps. With `checkpoint`, `feature_distance` is the mean of 1 - cosine between the features of the two pictures
    of a caption and seed.

    The teacher is sampled once for each caption: its latents are kept from one validation to the next, on the CPU.

    Args:
        timesteps: integers in the noise schedule, which has 1,000 in all published models.
        checkpoint: folder or hub name of a vision model, such as CLIP or DINOv2.
        pictures: how many of the captions are taken, the first ones (of each process its share).
    """

    needs_model = needs_teacher = True

    def __init__(
        self,
        timesteps: Sequence[int] = (100, 300, 500, 700, 900),
        checkpoint: str | None = None,
        pictures: int = 256,
        prefix: str | None = None,
    ):
        super().__init__(prefix)
        if not timesteps or not all(isinstance(t, int) and t >= 0 for t in timesteps):
            raise InputError(f"TeacherAgreement.timesteps={timesteps!r} must be a list of integers, e.g. [100, 500, 900]")
        if pictures < 1:
            raise InputError(f"TeacherAgreement.pictures={pictures} must be at least 1")
        self.timesteps, self.pictures = list(timesteps), pictures
        self.encoder = Encoder(checkpoint, "TeacherAgreement") if checkpoint else None
        self.latents: dict[tuple[str, int], Tensor] = {}

    def settings(self) -> dict:
        settings = dict(timesteps=self.timesteps, pictures=self.pictures)
        if self._model is not None and self.guidance_scale is not None:
            settings["agrees_under_guidance"] = self.guidance_scale
        return dict(settings, weights=self.encoder.name) if self.encoder else settings

    @property
    def guidance_scale(self) -> float | None:
        """The scale that the method taught the student, of a range the middle; None where it taught none."""
        guidance = getattr(self.model.method, "guidance", None)
        if guidance is None:
            return None
        return self.model.scheduler()[1]["guidance_scale"] if self.model.embeds_guidance else guidance.usual

    @torch.no_grad()
    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Compare on samples with `caption`, `seed` and, for the distance of features, `image`."""
        room = -(-self.pictures // get_world_size()) - len(self.results)
        if room <= 0:
            return
        samples = data_samples[:room]
        latents = self.teacher_latents(samples)
        columns = {f"latent_mse_t{t}": self.errors(latents, samples, t) for t in self.timesteps}
        if self.encoder:
            theirs = self.model.family.decode(self.model.frozen.whole(self.model.device), latents)
            ours = self.encoder.of_pictures([sample["image"] for sample in samples])
            columns["feature_distance"] = 1 - (ours * self.encoder.of_pictures(list(theirs))).sum(-1)
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        self.results += [dict(zip(columns, row, strict=True)) for row in values]

    def teacher_latents(self, samples: Sequence[dict]) -> Tensor:
        """The latents (B, C, h, w) that the teacher samples for `samples`, kept from call to call."""
        keys = [(sample["caption"], int(sample["seed"])) for sample in samples]
        if any(key not in self.latents for key in keys):
            sampled = self.model.sample_latents(*zip(*keys, strict=True), teacher=True)
            self.latents.update(zip(keys, sampled.cpu(), strict=True))
        device = next(self.model.student.parameters()).device
        return torch.stack([self.latents[key] for key in keys]).to(device)

    def errors(self, latents: Tensor, samples: Sequence[dict], timestep: int) -> Tensor:
        """Mean squared difference of the predictions at one timestep, (B,), in fp32."""
        model, schedule = self.model, self.model.noise_schedule
        if timestep >= len(schedule):
            raise InputError(f"TeacherAgreement.timesteps={self.timesteps}: the noise schedule ends at {len(schedule) - 1}")
        if timestep == schedule.clean:
            raise InputError(f"TeacherAgreement.timesteps={self.timesteps}: latents at {timestep} are clean; give 1 or more")
        if model.draws_teacher:
            return torch.zeros(len(samples))
        seeds = (torch.Generator().manual_seed(int(sample["seed"])) for sample in samples)
        noise = torch.stack([torch.randn(latents.shape[1:], generator=seed) for seed in seeds]).to(latents.device)
        latents, timesteps = latents.float(), torch.full((len(samples),), timestep, device=latents.device)
        noisy = schedule.add_noise(latents, noise, timesteps)
        height, width = (side * model.family.vae_scale for side in latents.shape[-2:])
        captions = [sample["caption"] for sample in samples]
        condition = model.condition_at(captions, height, width)
        if self.guidance_scale is None:
            theirs = model.predict_teacher(noisy, timesteps, condition)[0].float()
        else:
            scales = torch.full((len(samples),), float(self.guidance_scale), device=latents.device)
            sample, _ = guided_sample(model, noisy, timesteps, condition, scales)
            theirs = model.teacher_schedule.from_sample(sample, noisy, timesteps)
            condition = model.tell_guidance(condition, scales)
        ours = model.predict_student(noisy, timesteps, condition)
        if model.teacher_schedule.prediction_type != schedule.prediction_type:
            sample = schedule.to_sample(ours, noisy, timesteps)
            ours = model.teacher_schedule.from_sample(sample, noisy, timesteps)
        return (ours - theirs).square().mean((1, 2, 3))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        results = results[: self.pictures]  # the processes together may have taken a few more
        figures = {name: sum(result[name] for result in results) / len(results) for name in results[0]}
        curve = [figures[f"latent_mse_t{t}"] for t in self.timesteps]
        return figures | dict(latent_mse=sum(curve) / len(curve))
