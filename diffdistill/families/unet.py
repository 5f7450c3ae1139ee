"""What the pipelines around a UNet share: how it is called, and how it is told the guidance scale."""

import diffusers
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.families.reading import vae_config
from diffdistill.noise import VariancePreserving


class UNetFamily(Family):
    """A pipeline around diffusers' `UNet2DConditionModel`, with variance-preserving noise."""

    denoiser_class = diffusers.UNet2DConditionModel
    denoiser_name = "unet"
    noise = VariancePreserving
    addition: str | None = None  # `addition_embed_type` of the UNets that this family calls

    def check_denoiser(self) -> None:
        config, where = self.denoiser_config, f"{self.key}.checkpoint={self.checkpoint.name}"
        channels = vae_config(self).get("latent_channels", 4)
        if config.get("in_channels", 4) != channels:
            raise InputError(
                f"{where}: the UNet takes {config['in_channels']} channels and the VAE makes {channels}; it is made for"
                " another task, such as inpainting; give a text-to-image pipeline"
            )
        wanted = {"addition_embed_type": self.addition, "class_embed_type": None, "num_class_embeds": None}
        for key, value in wanted.items():
            if config.get(key) != value:
                raise InputError(
                    f"{where}: {key}={config.get(key)!r} of the UNet; a {type(self).__name__} can tell it nothing but"
                    f" {value!r}; give a text-to-image pipeline of that kind"
                )

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        return denoiser(noisy, timesteps, **condition, return_dict=False)[0]

    def tell_guidance(
        self, pipeline: diffusers.DiffusionPipeline, denoiser: nn.Module, condition: dict, scales: Tensor
    ) -> dict:
        width = denoiser.config.time_cond_proj_dim
        if width is None:
            return condition
        # The pipeline's own embedding, so that the student is told in training what sampling will tell it.
        embedding = pipeline.get_guidance_scale_embedding(scales.float().cpu() - 1, embedding_dim=width)
        return dict(condition, timestep_cond=embedding.to(scales.device, denoiser.dtype))
