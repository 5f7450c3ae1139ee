"""What the pipelines around a UNet share: how it is called, and how it is told the guidance scale."""

import diffusers
from torch import Tensor, nn

from diffdistill.families.base import Family
from diffdistill.noise import VariancePreserving


class UNetFamily(Family):
    """A pipeline around diffusers' `UNet2DConditionModel`, with variance-preserving noise."""

    denoiser_class = diffusers.UNet2DConditionModel
    denoiser_name = "unet"
    noise = VariancePreserving

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
