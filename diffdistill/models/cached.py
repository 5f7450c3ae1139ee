"""Latents and conditioning from a cache of encoded data, in the place of VAE and text encoders."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffdistill.datasets.cache import BAD, Cache
from diffdistill.families.base import Family


class CachedEncoding:
    """What the encoders of `family` have said of a data set, read from its `cache`.

    Latents are drawn as the VAE's posterior draws them, so they are those of a training without a cache, for the same seed.
    """

    def __init__(self, family: Family, cache: Cache):
        self.family, self.cache = family, cache
        self.vae = family.build_on_meta("vae")  # of which only the config is read

    def encode(self, batch: dict, needed: bool = True) -> tuple[Tensor, dict]:
        """Latents (B, C, h, w) in fp32 and the denoiser's conditioning of a batch of a `CachedDataset`.

        Latents that are not `needed` but for their shape are zeros.
        """
        found = {name: batch[f"latent_{name}"] for name in self.cache.index["moments"]}
        # Noise is drawn in the order in which latents lie in memory: in that in which the VAE leaves them.
        of_one, of_batch = self.cache.index["channels_last"]["x".join(map(str, found["mean"].shape[-2:]))]
        last = of_batch if len(found["mean"]) > 1 else of_one
        order = torch.channels_last if last else torch.contiguous_format
        found = {name: moments.contiguous(memory_format=order) for name, moments in found.items()}
        mean = found["mean"]
        latents = self.family.draw_latents(self.vae, found) if needed else mean.new_zeros(mean.shape, dtype=torch.float32)
        about = {name: batch[name].float() for name in self.family.of_picture}
        return latents, self.conditioning(self.cache.texts.numbers(list(batch["caption"])), about, latents.device)

    def replace_captions(self, condition: dict, captions: Sequence[str], device: torch.device) -> dict | None:
        """The conditioning of the same pictures with other captions; None where one of them is not in the cache."""
        numbers = self.cache.texts.numbers(captions)
        if (numbers == BAD).any():
            return None
        return self.conditioning(numbers, described(condition, self.family.of_picture), device)

    def conditioning(self, numbers: Sequence[int], about: dict[str, Tensor], device: torch.device) -> dict:
        """The conditioning of captions by their numbers, with what is known `about` the pictures put where it belongs."""
        places = self.cache.index["places"]
        found = self.cache.conditioning(numbers) | {places[name]: value for name, value in about.items()}
        whole: dict = {}
        for name, value in found.items():
            *sections, last = name.split(".")
            place = whole
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value.to(device)
        return whole


def described(condition: dict, names: Sequence[str]) -> dict[str, Tensor]:
    """The entries of a conditioning that describe the picture, by their own names."""
    found = {}
    for name, value in condition.items():
        if isinstance(value, dict):
            found |= described(value, names)
        elif name in names:
            found[name] = value
    return found
