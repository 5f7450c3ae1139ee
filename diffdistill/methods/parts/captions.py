"""What a step may do to the conditioning of the denoiser before student and teacher see it."""

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.files import read_lines
from diffdistill.methods.base import TrainedModel
from diffdistill.registry import MODELS


def swap_captions(ours: dict, theirs: dict, swapped: Tensor, of_picture: tuple[str, ...]) -> dict:
    """The conditioning `ours`, with the rows `swapped` (B,) taken from `theirs`; entries in `of_picture` stay."""
    result = {}
    for name, value in ours.items():
        if name in of_picture:
            result[name] = value
        elif isinstance(value, dict):
            result[name] = swap_captions(value, theirs[name], swapped, of_picture)
        else:
            result[name] = torch.where(swapped.view(-1, *[1] * (value.ndim - 1)), theirs[name], value)
    return result


def permuted(condition: dict, order: Tensor) -> dict:
    """The conditioning with its rows in another order (B,)."""
    return {name: permuted(value, order) if isinstance(value, dict) else value[order] for name, value in condition.items()}


@MODELS.register_module()
class RandomConditioning:
    """Shows student and teacher a noisy picture beside the caption of another one, with probability p(t).

    From the paper (Kim et al., CVPR 2025, arXiv:2504.02011): the caption of each noisy latent is replaced with a
    probability that depends on its timestep, by one drawn from a set that may be far larger than the set of pictures, so
    that the student sees the teacher answer captions that have no picture. From the authors' code: rate 5 in
    p(t) = exp(-rate (1 - t/T)), which is nearly 1 at pure noise, where the caption alone decides, and nearly 0 at small t;
    and a tenth of the captions, swapped or not, is empty. Our choice: without `captions`, the others of the batch stand in
    for the set; and SDXL's sizes and crop stay with the picture.

    The task loss asks for the noise of a picture that a swapped caption does not describe: leave it out.

    Args:
        rate: of p(t); 0 swaps every caption.
        captions: a text file with one caption a line.
        dropout: probability that a caption drawn from the file is empty. (For those of the batch, `CaptionDropout` of the
            data set decides.)
    """

    def __init__(self, rate: float = 5.0, captions: str | None = None, dropout: float = 0.1):
        if rate < 0:
            raise InputError(f"RandomConditioning: rate={rate} must be at least 0, so that p(t) is at most 1")
        if not 0 <= dropout <= 1:
            raise InputError(f"RandomConditioning: dropout={dropout} is not a probability; use a number from 0 to 1")
        self.rate, self.dropout = rate, dropout
        self.captions = captions and read_lines(captions, "model.method.conditioning.captions")
        self.smallest_batch = 1 if captions else 2  # the others of the batch stand in for a set of captions

    def probability(self, timesteps: Tensor, length: int) -> Tensor:
        """p(t) of integer `timesteps` (B,) of a schedule with `length` timesteps."""
        return torch.exp(-self.rate * (1 - timesteps.float() / length))

    def __call__(self, model: TrainedModel, condition: dict, timesteps: Tensor) -> dict:
        """The conditioning to use instead of `condition`."""
        chance = self.probability(timesteps, len(model.noise_schedule))
        swapped = torch.rand_like(chance) < chance
        others = self.others(model, condition, len(timesteps))
        return swap_captions(condition, others, swapped, model.of_picture)

    def others(self, model: TrainedModel, condition: dict, count: int) -> dict:
        """The conditioning of a random other caption in each of `count` rows."""
        if self.captions:
            drawn = [self.captions[i] for i in torch.randint(len(self.captions), (count,))]
            kept = torch.rand(count) >= self.dropout
            drawn = [caption if keep else "" for caption, keep in zip(drawn, kept, strict=True)]
            return model.replace_captions(condition, drawn)
        if count < 2:  # the check of a config knows the usual batch, not the last one of an epoch
            raise InputError(
                "model.method.conditioning: a batch of 1 has no other caption; set train_dataloader.drop_last=True, or"
                " model.method.conditioning.captions to a text file with one caption a line"
            )
        rows = torch.arange(count)
        return permuted(condition, (rows + torch.randint(1, count, (count,))) % count)
