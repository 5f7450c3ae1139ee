"""Student, teacher and fake score whose pictures are Gaussian, in float64, so that every score is known in closed form."""

import torch
from closed_form import ClosedForm
from torch import nn

from diffdistill.noise import FlowMatching
from diffdistill.step import Step, Turn


class Gaussians(ClosedForm, nn.Module):
    """The student draws x_0 = `scale` z + `mean` of what it sees, whatever the time; the others know a mean and a deviation.

    Args:
        kinds: of the predictions, the teacher's and the student's; "flow_prediction" for flow matching.
        teacher, fake: (mean, deviation).
    """

    def __init__(self, kinds=("epsilon", "epsilon"), teacher=(1.0, 0.5), fake=(-0.5, 1.5), mean=0.2, scale=0.7):
        nn.Module.__init__(self)
        if "flow_prediction" in kinds:
            self.noise_schedule = self.teacher_schedule = FlowMatching(3.0)
        else:
            ClosedForm.__init__(self, *kinds)
        self.known, self.turn, self.iteration = dict(teacher=teacher, fake=fake), Turn(), 0
        self.mean, self.scale = (nn.Parameter(torch.tensor(value, dtype=torch.double)) for value in (mean, scale))

    def posterior(self, who, noisy, timesteps):
        """E[x_0 | x_t] for x_0 of a Gaussian."""
        mean, deviation = self.known[who]
        alpha, sigma = self.teacher_schedule.coefficients(timesteps, noisy)
        return mean + alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * (noisy - alpha * mean)

    def said(self, who, noisy, timesteps):
        return self.teacher_schedule.from_sample(self.posterior(who, noisy, timesteps), noisy, timesteps)

    def predict_teacher(self, noisy, timesteps, condition):
        captions = condition["caption"].double().view(-1, 1, 1, 1)
        sample = self.posterior("teacher", noisy, timesteps) + captions
        return self.teacher_schedule.from_sample(sample, noisy, timesteps), {}

    def predict_critic(self, name, noisy, timesteps, condition):
        assert name == "fake_score"
        return self.said("fake", noisy, timesteps)

    def draws(self, noisy):
        return self.scale * noisy + self.mean

    @torch.no_grad()
    def predict_student(self, noisy, timesteps, condition, averaged=False):
        return self.noise_schedule.from_sample(self.draws(noisy), noisy, timesteps)

    def take_step(self, noisy, timesteps, condition, target, teacher_prediction=None, teacher_features=None):
        prediction = self.noise_schedule.from_sample(self.draws(noisy), noisy, timesteps)
        return Step(noisy, timesteps, prediction, target, self.noise_schedule)
