"""Steps that follow from their samples alone, so that ranks together compute what one rank does with all their samples."""

import zlib

import torch
from mmengine.registry import MODELS
from torch import Tensor

from diffdistill.methods.denoising import DenoisingKD
from diffdistill.models import Distiller, FineTuner


def seed_by(sample: Tensor) -> None:
    torch.manual_seed(zlib.crc32(sample.numpy().tobytes()))


class EncodesByPicture:
    def encode(self, batch: dict) -> tuple[Tensor, dict]:
        """Each latent is drawn with a seed of its picture."""
        latents = []
        for picture in batch["pixel_values"]:
            seed_by(picture)
            latents.append(self.family.encode_pictures(self.frozen.pipeline, picture[None]))
        return torch.cat(latents), super().encode(batch)[1]


@MODELS.register_module()
class FixedDistiller(EncodesByPicture, Distiller):
    pass


@MODELS.register_module()
class FixedFineTuner(EncodesByPicture, FineTuner):
    pass


@MODELS.register_module()
class FixedDenoisingKD(DenoisingKD):
    """Timesteps and noise of each latent are drawn with a seed of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        draw = self.noising

        def noising(schedule, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            drawn = []
            for latent in latents:
                seed_by(latent)
                drawn.append(draw(schedule, latent[None]))
            return tuple(map(torch.cat, zip(*drawn, strict=True)))

        noising.check = draw.check
        self.noising = noising
