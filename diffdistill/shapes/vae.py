"""The VAE of the shapes world."""

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from diffdistill.shapes import oracle, world
from diffdistill.shapes.pixels import to_images, to_tensor
from diffdistill.shapes.training import Log, freeze, minimise


def train_vae(seed: int = 0, steps: int = 6000, batch: int = 16, log: Log | None = None) -> AutoencoderKL:
    """A VAE from 3 x 32 x 32 to 4 x 8 x 8, frozen, whose `scaling_factor` gives latents unit variance.

    Loss: squared error + 0.5 absolute error + 1e-4 KL divergence, each a mean over its elements; pictures of seen triples.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 32, 32),
            layers_per_block=1,
            norm_num_groups=8,
            latent_channels=4,
            sample_size=world.RESOLUTION,
            force_upcast=False,
        )

    def loss(step: int) -> Tensor:
        pixels = to_tensor(world.draw(world.sample(seed, range((step - 1) * batch, step * batch))))
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return mse_loss(decoded, pixels) + 0.5 * l1_loss(decoded, pixels) + 1e-4 * kl

    minimise(loss, vae.parameters(), steps, 2e-3, log)
    freeze(vae)
    with torch.no_grad():
        pixels = to_tensor(world.draw(world.sample(seed, range(1024))))
        vae.register_to_config(scaling_factor=round(1 / vae.encode(pixels).latent_dist.sample(generator).std().item(), 4))
    return vae


@torch.no_grad()
def round_trip(vae: AutoencoderKL, seed: int = 1, n: int = 1024) -> dict[str, float]:
    """Percentages that the oracle still reads right when `n` pictures of all triples have been encoded and decoded."""
    scenes = world.sample(seed, range(n), "all")
    batches = [to_tensor(world.draw(scenes[start : start + 64])) for start in range(0, n, 64)]
    decoded = [vae.decode(vae.encode(batch).latent_dist.mode()).sample for batch in batches]
    right = oracle.judge(to_images(torch.cat(decoded)), scenes.captions())
    return {name: 100 * float(values.mean()) for name, values in right.items()}
