"""Phased consistency: its edges, its target against the exact path of a Gaussian, and its sampler."""

import diffusers
import pytest
import torch
from closed_form import SD, ClosedForm

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.config.stages import plan_stages, stage_configs
from diffdistill.errors import InputError
from diffdistill.families.architectures import planning
from diffdistill.methods import LatentConsistency
from diffdistill.methods.consistency import consistency, phased
from diffdistill.noise import FlowMatching, VariancePreserving

ALPHAS = diffusers.DDPMScheduler(**SD).alphas_cumprod
SCHEDULES = {
    "epsilon": VariancePreserving(ALPHAS, "epsilon"),
    "v": VariancePreserving(ALPHAS, "v_prediction"),
    "flow": FlowMatching(),
    "shifted": FlowMatching(3.0),
    "given": FlowMatching(3.0, sigmas_given=True),
}
LATENTS = torch.randn(400, 4, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(1))
CAPTIONS = dict(caption=torch.zeros(400))


def edge_below(timesteps, schedule, phases):
    """The lower edges of the phases that end at or enclose `timesteps` (B,), by hand."""
    if isinstance(schedule, VariancePreserving):
        width = 1000 // phases
        return timesteps // width * width - 1
    sigma = timesteps.double() / 1000
    even = sigma / (schedule.shift - (schedule.shift - 1) * sigma)
    even = ((even * phases - 1e-5).ceil() - 1).clamp(min=0) / phases
    return 1000 * schedule.shift * even / (1 + (schedule.shift - 1) * even)


class Gaussian(ClosedForm):
    """A teacher that knows the score of x ~ N(0.7, 0.5^2), and a student that knows where its path meets the phase's edge.

    On a path of the probability flow, (z - alpha mean) / sqrt(alpha^2 var + sigma^2) stays what it is.
    """

    mean, var = 0.7, 0.25

    def __init__(self, schedule, phases):
        self.noise_schedule = self.teacher_schedule = schedule
        self.phases, self.asked = phases, []

    def moments(self, timesteps, like):
        alpha, sigma = self.noise_schedule.coefficients(timesteps, like)
        return alpha * self.mean, alpha**2 * self.var + sigma**2

    def path(self, noisy, timesteps, later):
        mean, var = self.moments(timesteps, noisy)
        mean_later, var_later = self.moments(later, noisy)
        return mean_later + (var_later / var).sqrt() * (noisy - mean)

    def predict_teacher(self, noisy, timesteps, condition):
        """E[x | z]."""
        alpha, _ = self.noise_schedule.coefficients(timesteps, noisy)
        mean, var = self.moments(timesteps, noisy)
        sample = self.mean + alpha * self.var / var * (noisy - mean)
        return self.noise_schedule.from_sample(sample, noisy, timesteps), {}

    def predict_student(self, noisy, timesteps, condition, averaged=False):
        """The x from which one DDIM step gets to the edge."""
        self.asked.append(timesteps)
        edges = edge_below(timesteps, self.noise_schedule, self.phases)
        alpha, sigma = self.noise_schedule.coefficients(timesteps, noisy)
        alpha_edge, sigma_edge = self.noise_schedule.coefficients(edges, noisy)
        ratio = sigma_edge / sigma
        sample = (self.path(noisy, timesteps, edges) - ratio * noisy) / (alpha_edge - ratio * alpha)
        return self.noise_schedule.from_sample(sample, noisy, timesteps)

    def take_step(self, noisy, timesteps, condition, target, teacher_prediction=None, teacher_features=None):
        step = super().take_step(noisy, timesteps, condition, target)
        step.prediction = self.predict_student(noisy, timesteps, condition)
        return step


class Solver(Gaussian):
    """Whose student knows where the teacher's own steps of a grid lead, down to the edge."""

    def __init__(self, schedule, phases, grid):
        super().__init__(schedule, phases)
        self.grid = grid

    def path(self, noisy, timesteps, later):
        z, schedule = noisy, self.noise_schedule
        for part in range(self.grid, 0, -1):
            ends = [schedule.grid(torch.full((len(noisy),), each), self.grid, noisy) for each in (part, part - 1)]
            here = (timesteps >= ends[0] - 1e-3) & (later < ends[0] - 1e-3)
            sample = schedule.to_sample(self.predict_teacher(z, ends[0], {})[0], z, ends[0])
            z = torch.where(here.view(-1, 1, 1, 1), schedule.ddim_step(sample, z, *ends), z)
        return z


def one_step(model, grid, **options):
    torch.manual_seed(0)
    return LatentConsistency(1.0, grid=grid, phases=model.phases, target="student", **options)(model, LATENTS, CAPTIONS)


def error(model, grid):
    step = one_step(model, grid)
    edges = edge_below(step.timesteps, model.noise_schedule, model.phases)
    return (step.target - model.path(step.noisy, step.timesteps, edges)).abs().mean().item()


# The target


@pytest.mark.parametrize("phases", [2, 4])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_target_comes_to_the_exact_path_as_the_grid_gets_finer(name, phases):
    """One teacher's step of length h is wrong by O(h^2), so half of it by a quarter; the student adds nothing."""
    coarse, fine, finest = (error(Gaussian(SCHEDULES[name], phases), grid) for grid in (20, 40, 200))
    assert fine < coarse / 3
    assert finest < fine / 15
    assert finest < 5e-4


@pytest.mark.parametrize("phases", [2, 4])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_exact_student_meets_the_edge(name, phases):
    """`prediction` of a Step is f itself, at every time of the grid."""
    model = Gaussian(SCHEDULES[name], phases)
    step = one_step(model, 40)
    assert len(step.timesteps.unique()) == 40
    edges = edge_below(step.timesteps, model.noise_schedule, phases)
    exact = model.path(step.noisy, step.timesteps, edges)
    torch.testing.assert_close(step.prediction.double(), exact, rtol=1e-4, atol=1e-4)  # predictions are compared in fp32


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_teachers_own_steps_to_the_edge_have_no_loss(name):
    """What is learned in the end: f of the student is all that the teacher does from t to the edge."""
    step = one_step(Solver(SCHEDULES[name], 4, 20), 20)
    torch.testing.assert_close(step.target, step.prediction.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("phases", [2, 4, 8])
@pytest.mark.parametrize("name", SCHEDULES)
def test_before_an_edge_the_target_is_the_teachers_step(name, phases):
    """Whatever the target network says there, which is nothing that has been trained."""
    model = Gaussian(SCHEDULES[name], phases)
    schedule, said = model.noise_schedule, model.predict_student
    model.predict_student = lambda *args, **kwargs: said(*args, **kwargs) * float("nan")
    step = one_step(model, 40)
    edges = edge_below(step.timesteps, schedule, phases)
    last = torch.unique(torch.stack([step.timesteps.double(), edges.double()], 1), dim=0)  # by time
    firsts = {times[times[:, 1] == edge, 0].min().item() for times in [last] for edge in last[:, 1].unique()}
    rows = torch.tensor([time in firsts for time in step.timesteps.double().tolist()])
    assert len(firsts) == phases
    sample = schedule.to_sample(model.predict_teacher(step.noisy, step.timesteps, {})[0], step.noisy, step.timesteps)
    expected = schedule.ddim_step(sample, step.noisy, step.timesteps, edges)
    torch.testing.assert_close(step.target[rows], expected[rows], rtol=1e-4, atol=1e-5)
    assert step.target[~rows].isnan().all()
    assert step.timesteps.min() >= 0


def test_at_the_edge_it_is_the_identity():
    noisy, sample = LATENTS[:2], LATENTS[2:4]
    for schedule in SCHEDULES.values():
        times, edges = torch.tensor([499, 749]), torch.tensor([499, 499])
        result = phased(sample, noisy, times, edges, schedule)
        assert torch.equal(result[0], noisy[0])
        torch.testing.assert_close(result[1:], schedule.ddim_step(sample, noisy, times, edges)[1:])
    clean = torch.zeros(2, dtype=torch.long)
    assert torch.equal(phased(sample, noisy, clean, clean, FlowMatching()), noisy)


def test_one_phase_would_be_latent_consistency():
    """c_skip and c_out are 0 and 1 at every time of the grid, so f is x, the DDIM step to clean latents."""
    schedule, noisy, sample = SCHEDULES["epsilon"], LATENTS[:50], LATENTS[50:100]
    times = torch.arange(19, 1000, 20)
    expected = consistency(sample, noisy, times, schedule)
    torch.testing.assert_close(phased(sample, noisy, times, torch.full((50,), -1), schedule), expected, rtol=0, atol=2e-4)


# The sampler


@pytest.mark.parametrize(("phases", "steps"), [(4, 4), (2, 2), (8, 8)])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_sampler_follows_the_exact_path_from_edge_to_edge(name, phases, steps):
    """In stock diffusers: asked at the first times of the phases, the exact student gets to the end of the path."""
    model = Gaussian(SCHEDULES[name], phases)
    schedule, noise = model.noise_schedule, LATENTS[:8]
    trained = one_step(model, 40).timesteps.double()
    tops = schedule.grid(torch.arange(phases, 0, -1), phases, noise).double()
    assert all((trained - top).abs().min() < 1e-3 for top in tops)

    model.embeds_guidance = False
    changes = dict(LatentConsistency(1.0, grid=40, phases=phases, target="student").sampling(model)["scheduler"])
    kind = getattr(diffusers, changes.pop("type"))
    base = SD if isinstance(schedule, VariancePreserving) else {}
    scheduler = kind(**base, **{**schedule.scheduler_changes(kind, "here"), **changes})
    given = name == "given"
    scheduler.set_timesteps(
        **dict(sigmas=[i / steps for i in range(steps, 0, -1)]) if given else dict(num_inference_steps=steps)
    )
    exact = isinstance(schedule, VariancePreserving) or given
    torch.testing.assert_close(scheduler.timesteps.double(), tops, rtol=0, atol=1e-3 if exact else 3)

    z = noise
    for time, top in zip(scheduler.timesteps, tops.long() if schedule.clean else tops, strict=True):
        said = model.predict_student(z, top.expand(len(z)), {})
        z = scheduler.step(said, time, z).prev_sample
    start = torch.full((8,), 999 if isinstance(schedule, VariancePreserving) else 1000)
    end = model.path(noise, start, torch.full((8,), schedule.clean))
    torch.testing.assert_close(z.double(), end, rtol=0, atol=1e-4 if exact else 2e-2)


def test_fewer_steps_end_on_edges_as_well():
    model = Gaussian(SCHEDULES["epsilon"], 4)
    model.embeds_guidance = False
    method = LatentConsistency(1.0, grid=40, phases=4, steps=2, target="student")
    sampling = method.sampling(model)
    assert sampling["num_inference_steps"] == 2
    scheduler = diffusers.DDIMScheduler(**SD, timestep_spacing=sampling["scheduler"]["timestep_spacing"])
    scheduler.set_timesteps(2)
    assert scheduler.timesteps.tolist() == [999, 499]
    assert method.sampling(model, 1)["scheduler"]["type"] == "DDIMScheduler"


@pytest.mark.parametrize(
    ("phases", "kept"), [(8, [0.05, 0.35, 0.67, 1.0]), (4, [0.08, 0.44, 1.0]), (2, [0.17, 1.0]), (1, [1.0])]
)
def test_fewer_steps_than_phases_blur(phases, kept):
    """Of the deviation of x the exact student keeps only a share: docs/results/few_steps.md has these figures."""
    model = Gaussian(SCHEDULES["epsilon"], phases)
    for steps, share in zip((1, 2, 4, 8), kept, strict=False):
        z = LATENTS
        for part in range(steps, 0, -1):
            ends = [model.noise_schedule.grid(torch.full((len(z),), each), steps, z) for each in (part, part - 1)]
            sample = model.noise_schedule.to_sample(model.predict_student(z, ends[0], {}), z, ends[0])
            z = model.noise_schedule.ddim_step(sample, z, *ends)
        end = model.path(LATENTS, torch.full((len(z),), 999), torch.full((len(z),), -1))
        assert (z.std() / end.std()).item() == pytest.approx(share, abs=0.006)


# Configs


def test_phases_of_hyper_sd_shrink_under_one_teacher():
    """8, 4, 2, 1; the student goes on, and the teacher stays the pipeline's own."""
    stages = stage_configs(load_config("sdxl_shapes_hyper"))
    plans = plan_stages(stages)
    assert [plan.method.phases for plan in plans] == [8, 4, 2, 1]
    assert [plan.student_sampling["num_inference_steps"] for plan in plans] == [8, 4, 2, 1]
    kinds = [plan.student_sampling["scheduler"]["type"] for plan in plans]
    assert kinds == 3 * ["DDIMScheduler"] + ["LCMScheduler"]
    assert all("denoiser" not in stage.model.teacher for stage in stages)
    assert all(stage.model.student.checkpoint for stage in stages[1:])
    lcm = load_config("sdxl_shapes_lcm")
    assert sum(stage.train_cfg.max_iters for stage in stages) == lcm.train_cfg.max_iters


def test_phases_of_a_flow_are_sampled_as_a_progressive_student():
    with planning():
        sampling = check_model(load_config("sd3_shapes_pcm").model).student_sampling
    assert sampling["scheduler"] == dict(type="DPMSolverMultistepScheduler", solver_order=1)
    assert (sampling["num_inference_steps"], sampling["guidance_scale"]) == (4, 1.0)


# Bad input


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (dict(phases=4), r"model.method.grid=50 does not split into 4 phases .*; use a multiple of 4, such as 20"),
        (dict(phases=0), "model.method.phases=0: give a whole number of 1 or more"),
        (dict(phases=2.0), "model.method.phases=2.0: give a whole number of 1 or more"),
        (dict(phases=3, grid=30), "model.method.grid=30 does not divide 1000 timesteps"),
        (
            dict(phases=4, grid=40, steps=8),
            r"model.method.steps=8: each step of a student of 4 phases .*; use one of 1, 2, 4",
        ),
        (dict(phases=4, grid=40, steps=3), "model.method.steps=3: each step of a student of 4 phases"),
        (dict(phases=4, grid=40, steps=0), "model.method.steps=0: each step of a student of 4 phases"),
    ],
)
def test_bad_numbers(method, message, thin_sdxl):
    model = dict(
        type="Distiller",
        teacher=dict(type="StableDiffusionXL", checkpoint=str(thin_sdxl)),
        method=dict(type="LatentConsistency", guidance_scale=3.0, target="student", **method),
        losses=dict(task=dict(type="TaskLoss")),
    )
    with pytest.raises(InputError, match=message):
        check_model(model)
