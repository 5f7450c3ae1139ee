"""Pictures to scaled latents and back, by the VAE of a pipeline."""

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

# Of the posterior of pictures: `mean` (B, C, h, w), and `std` of that shape where the VAE has one.
Moments = dict[str, Tensor]


class LatentCoding:
    """How a family turns pictures into latents: what the VAE says of them, and then what is drawn from that and scaled."""

    normalises_latents = False  # whether the pipeline heeds `latents_mean` and `latents_std` of its VAE

    def encode_pictures(self, pipeline: diffusers.DiffusionPipeline, pictures: Tensor) -> Tensor:
        """Scaled latents in fp32 of pictures (B, 3, H, W) in [-1, 1], sampled from the VAE's posterior where it has one."""
        return self.draw_latents(pipeline.vae, self.posterior(pipeline, pictures))

    @torch.no_grad()
    def posterior(self, pipeline: diffusers.DiffusionPipeline, pictures: Tensor) -> Moments:
        """What the VAE says of pictures (B, 3, H, W) in [-1, 1], in its own dtype and scale; nothing is drawn."""
        return moments(pipeline.vae.encode(pictures.to(pipeline.vae.dtype)))

    @torch.no_grad()
    def draw_latents(self, vae: nn.Module, found: Moments) -> Tensor:
        """Scaled latents in fp32, drawn from the posterior `found`; of `vae` only its config is read."""
        latents = found["mean"]
        if "std" in found:
            # In their dtype and on their device, as `latent_dist.sample()` draws it.
            latents = latents + found["std"] * torch.randn(latents.shape, device=latents.device, dtype=latents.dtype)
        latents = latents.float()
        mean, std = self.latent_statistics(vae, latents)
        return (latents - mean) * scaling_factor(vae) / std

    @torch.no_grad()
    def decode(self, pipeline: diffusers.DiffusionPipeline, latents: Tensor) -> np.ndarray:
        """Pictures (B, H, W, 3), uint8, of scaled latents, decoded in the VAE's own dtype."""
        vae = pipeline.vae
        latents = latents.to(vae.dtype)
        mean, std = self.latent_statistics(vae, latents)
        pictures = self.decode_unscaled(vae, latents * std / scaling_factor(vae) + mean)
        unit = pipeline.image_processor.postprocess(pictures.float(), output_type="np")
        return (unit * 255).round().astype(np.uint8)

    def decode_unscaled(self, vae: nn.Module, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of latents in the VAE's own scale."""
        return vae.decode(latents, return_dict=False)[0]

    def latent_statistics(self, vae: nn.Module, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and deviation of the VAE's unscaled latents, (1, C, 1, 1), by which the pipeline shifts and scales them.

        Where the VAE says none, or the pipeline takes no notice of them, they are the VAE's shift, if it has one, and 1.
        """
        found = [vae.config.get("latents_mean"), vae.config.get("latents_std")]
        if not self.normalises_latents or None in found:
            return vae.config.get("shift_factor") or 0.0, 1.0
        return tuple(torch.tensor(values).view(1, -1, 1, 1).to(like) for values in found)


def moments(encoded) -> Moments:
    """What a VAE's `encode` has returned, as moments; one without a posterior says the latents alone."""
    if "latent_dist" not in encoded:
        return dict(mean=encoded.latent)
    return dict(mean=encoded.latent_dist.mean, std=encoded.latent_dist.std)


def scaling_factor(vae: nn.Module) -> float:
    """The number by which the pipeline multiplies latents; 1 for a VAE that has none."""
    return vae.config.get("scaling_factor", 1.0)


def latent_shape(family, height: int, width: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a picture of `height` x `width` pixels, from config files alone."""
    config = family.build_on_meta("vae").config
    side = family.vae_scale
    return config.get("latent_channels") or config.get("z_dim"), height // side, width // side
