"""Noisy pictures on which denoisers are compared, and how far another prediction is from the teacher's."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import Tensor, nn

from diffdistill.datasets.cached import cached_loader
from diffdistill.engine.feed import Feed
from diffdistill.engine.runner import build_dataloader
from diffdistill.engine.seeding import reseed
from diffdistill.models.base import DiffusionModel


@dataclass
class Sample:
    """A batch: what a denoiser is told, and what the teacher says to it, (B, C, H, W); `weights` (B,) of its errors."""

    noisy: Tensor
    timesteps: Tensor
    condition: dict
    unconditional: dict | None
    weights: Tensor
    teacher: Tensor | None = None


class Samples:
    """`count` training pictures, each at a timestep of its own, spread evenly from clean to noise.

    Predictions are guided as the config samples. The error of a prediction is its weighted squared distance from the
    teacher's, relative to the weighted power of that: 0 for the teacher itself, about 1 for a denoiser that says nothing.
    The weight is the share of the way to noise, since what is wrong at high noise is not put right later (LAPTOP-Diff,
    Zhang et al., 2024, arXiv:2404.11098, weighs alike).

    Args:
        model: encodes pictures and captions, and knows the noise.
        config: of the training that the pictures are from.
        first: batches of the training to pass over, so that two sets differ.
    """

    def __init__(self, model: DiffusionModel, config: Config, count: int, first: int = 0):
        seed = config.get("randomness", {}).get("seed") or 0
        self.model, self.scale = model, guidance_of(model)
        self.batches = list(self.draw(config, count, first, seed))

    @torch.no_grad()
    def draw(self, config: Config, count: int, first: int, seed: int) -> Iterator[Sample]:
        """The batches, of the config's batch size at most."""
        section = cached_loader(config)
        size = min(section.get("batch_size", 1), count)
        loader = build_dataloader({**section, "batch_size": size}, seed)
        number = -(-count // size)
        reseed(seed, first)
        shares = ((torch.arange(number * size) + 0.5) / (number * size))[torch.randperm(number * size)]
        feed = Feed(loader, seed)
        feed.start(first, seed, rank=0)
        batches = itertools.islice(feed, first, None)
        schedule = self.model.teacher_schedule
        for each, batch in zip(shares.split(size), batches, strict=False):
            latents, condition = self.model.encode(self.model.data_preprocessor(batch))
            share = each.to(latents.device)
            timesteps = schedule.at(share, latents)
            noisy = schedule.add_noise(latents, torch.randn_like(latents), timesteps)
            empty = self.model.replace_captions(condition, [""] * len(latents)) if self.scale > 1 else None
            yield Sample(noisy, timesteps, condition, empty, share)

    @torch.no_grad()
    def predict(self, denoiser: nn.Module, sample: Sample) -> Tensor:
        """What `denoiser` predicts, guided, in fp32."""

        def call(condition: dict) -> Tensor:
            return self.model.family.predict(denoiser, sample.noisy, sample.timesteps, condition).float()

        with self.model.autocast():
            prediction = call(sample.condition)
            if sample.unconditional is None:
                return prediction
            unguided = call(sample.unconditional)
            return unguided + self.scale * (prediction - unguided)

    def learn_teacher(self, teacher: nn.Module) -> None:
        """Note what `teacher` predicts."""
        for sample in self.batches:
            sample.teacher = self.predict(teacher, sample)

    def error(self, denoiser: nn.Module) -> float:
        """The error of `denoiser`, see above."""
        wrong, power = 0.0, 0.0
        for sample in self.batches:
            weights = sample.weights[:, None, None, None]
            wrong += (weights * (self.predict(denoiser, sample) - sample.teacher) ** 2).sum().item()
            power += (weights * sample.teacher**2).sum().item()
        return wrong / power


def guidance_of(model: DiffusionModel) -> float:
    """The scale by which predictions are guided outside the denoiser: 1 where it is told, or samples without."""
    if model.embeds_guidance:
        return 1.0
    return float(model.scheduler()[1].get("guidance_scale") or 1.0)
