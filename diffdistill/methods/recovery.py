"""Block-local recovery: every kept block learns by itself what the blocks behind it did, before they were dropped."""

from torch import Tensor

from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.noise import Noising
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class BlockRecovery(Method):
    """Each kept block gets the teacher's input to it; its target is the teacher's output at the end of its interval.

    So errors of one block do not reach the next, and all learn at once (PPCL: Ma et al., 2025, arXiv:2511.16156, sec. 3.3).
    The interval of a block reaches to the next kept one: `feature_pairs` with the rule "next". Only blocks behind which
    something was dropped are trained. The losses are `FeatureKD` alone; PPCL normalises tokens and compares both streams:
    `dict(type="FeatureKD", normalize="tokens")`, `level=["transformer_blocks.*", "transformer_blocks.*:text"]`.

    Args:
        timesteps, noise: of `Noising`; by default uniform timesteps and white noise.
    """

    needs_teacher = True
    predicts = False

    def __init__(self, timesteps: dict | None = None, noise: dict | None = None):
        self.noising = Noising(timesteps, noise)

    def check(self, plan: PlannedModel) -> None:
        self.noising.check(plan.noise_schedule)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        noisy, _, timesteps = self.noising(model.noise_schedule, latents)
        return model.take_block_step(noisy, timesteps, condition)
