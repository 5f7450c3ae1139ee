"""A teacher in closed form, in float64, as methods see it: what it says depends on the latents, the time and the caption."""

import diffusers
import torch

from diffdistill.noise import VariancePreserving
from diffdistill.step import Step

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


class ClosedForm:
    """All that a method may ask of a model (`methods.base.TrainedModel`).

    The conditioning is one number a sample; that of an empty caption is 0.
    """

    of_picture = ()
    teacher_embeds_guidance = False

    def __init__(self, teacher_type="epsilon", student_type="epsilon"):
        scheduler = diffusers.DDPMScheduler(**SD)
        self.teacher_schedule = VariancePreserving(scheduler.alphas_cumprod, teacher_type)
        self.noise_schedule = self.teacher_schedule.predicting(student_type)

    def replace_captions(self, condition, captions):
        return dict(caption=torch.zeros(1))

    def tell_guidance(self, condition, scales, teacher=False):
        return condition

    def predict_teacher(self, noisy, timesteps, condition):
        wave = torch.sin(timesteps.double() / 100).view(-1, 1, 1, 1)
        caption = condition["caption"].double().view(-1, 1, 1, 1)
        return 0.3 * noisy * wave + torch.tanh(noisy) + 0.2 * caption, {}

    def take_step(self, noisy, timesteps, condition, target, teacher_prediction=None, teacher_features=None):
        return Step(noisy, timesteps, target, target, self.noise_schedule, teacher_prediction=teacher_prediction)


def ddim(prediction_type: str, steps: int) -> diffusers.DDIMScheduler:
    """diffusers' trailing DDIM with `steps` steps, in float64."""
    scheduler = diffusers.DDIMScheduler(
        **SD, prediction_type=prediction_type, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    scheduler.set_timesteps(steps)
    return scheduler
