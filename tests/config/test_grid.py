"""A student of few steps is trained at the timesteps of its sampler, or the config is refused."""

import json

import pytest
import torch
from tiny_transformers import write_flux

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.models.finetuner import FineTuner

DDIM = dict(type="DDIMScheduler", timestep_spacing="trailing")
EULER = dict(type="EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
LORA = dict(type="LoraConfig", r=4, target_modules=["attn2.to_q"])


def model(folder, steps, sampling, kind="StableDiffusion"):
    method = dict(type="DenoisingKD", timesteps=dict(type="GridTimesteps", steps=steps))
    losses = dict(task=dict(type="TaskLoss"))
    base = dict(type=kind, checkpoint=str(folder))
    return dict(type="FineTuner", base=base, adapter=LORA, losses=losses, method=method, sampling=sampling)


@pytest.mark.parametrize(
    ("steps", "sampling"),
    [
        (2, dict(scheduler=DDIM, num_inference_steps=2)),
        ([999], dict(scheduler=DDIM, num_inference_steps=1)),
        ([999, 759, 499, 259], dict(scheduler="LCMScheduler", num_inference_steps=4)),
        (
            4,
            dict(scheduler=EULER, num_inference_steps=4),
        ),
    ],
)
def test_a_grid_of_the_sampler_is_taken(tiny_sd, steps, sampling):
    grid = check_model(model(tiny_sd, steps, sampling)).method.sampler_times
    assert len(grid) == sampling["num_inference_steps"]


@pytest.mark.parametrize(
    ("steps", "sampling", "message"),
    [
        (
            4,
            dict(scheduler=DDIM, num_inference_steps=2),
            "model.method.timesteps are 4, and model.sampling.num_inference_steps=2: a student of few steps",
        ),
        (2, {}, "model.method.timesteps are 2, and model.sampling.num_inference_steps=None"),
        (
            2,
            dict(scheduler=dict(type="DDIMScheduler", timestep_spacing="leading"), num_inference_steps=2),
            "model.method.timesteps are [499, 999], and DDIMScheduler asks for [1, 501] in 2 steps; give these to",
        ),
        (4, dict(scheduler="LCMScheduler", num_inference_steps=4), "LCMScheduler asks for [259, 499, 759, 999] in 4 steps"),
        (3, dict(scheduler=DDIM, num_inference_steps=3), "GridTimesteps: steps=3 does not divide 1000 timesteps"),
    ],
)
def test_another_grid_is_refused(tiny_sd, steps, sampling, message):
    with pytest.raises(InputError) as raised:
        check_model(model(tiny_sd, steps, sampling))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_of_a_flow_the_number_is_compared(tiny_sd3):
    flow = dict(kind="StableDiffusion3")
    assert (
        len(check_model(model(tiny_sd3, 3, dict(num_inference_steps=3), **flow) | dict(adapter=None)).method.sampler_times)
        == 3
    )
    with pytest.raises(InputError, match=r"timesteps are 3, and model.sampling.num_inference_steps=4"):
        check_model(model(tiny_sd3, 3, dict(num_inference_steps=4), **flow) | dict(adapter=None))


def test_a_student_that_comes_to_few_steps_says_its_sampler_itself(tiny_sd, tiny_sd3):
    """Its teacher keeps the pipeline's own, with the steps and the scale of the config."""
    many = dict(num_inference_steps=12, guidance_scale=3.0)
    options = model(tiny_sd, 1, many) | dict(method=dict(type="DenoisingKD", steps=4))
    plan = check_model(options)
    own = plan.student_sampling
    assert plan.sampling == many
    assert (own["scheduler"]["type"], own["num_inference_steps"], own["guidance_scale"]) == ("DDIMScheduler", 4, 1.0)
    assert plan.method.noising.timesteps.times(plan.noise_schedule, torch.empty(0)).tolist() == [249, 499, 749, 999]
    flow = check_model(model(tiny_sd3, 1, many, kind="StableDiffusion3") | dict(adapter=None, method=options["method"]))
    assert flow.student_sampling["scheduler"] == flow.noise_schedule.one_step_sampler(4)

    for method, message in (
        (dict(steps=3), "model.method.steps=3 does not divide 1000 timesteps"),
        (dict(steps=0), "model.method.steps=0: give a whole number of 1 or more"),
        (dict(steps=[999]), r"model.method.steps=\[999\]: give a whole number of 1 or more"),
        (dict(steps=1, timesteps=dict(type="UniformTimesteps")), "leave model.method.timesteps out"),
    ):
        with pytest.raises(InputError, match=message):
            check_model(model(tiny_sd, 1, many) | dict(method=dict(type="DenoisingKD", **method)))


def test_a_student_that_is_told_the_scale_is_told_that_of_its_training(tmp_path):
    options = model(write_flux(tmp_path), 1, dict(num_inference_steps=8, guidance_scale=3.5), kind="Flux") | dict(
        adapter=None
    )
    for told, found in ((dict(guidance_scale=3.0), 3.0), ({}, None)):
        plan = check_model(options | dict(method=dict(type="DenoisingKD", steps=2, **told)))
        assert plan.student_sampling.get("guidance_scale") == found


@pytest.mark.parametrize("kind", ["DDIMScheduler", "DDPMScheduler"])
def test_a_sampler_of_pixels_does_not_clip_latents(tiny_sdxl, kind):
    """diffusers lets these two clip at 1 unless a config says otherwise, and that of another scheduler says nothing."""
    assert "clip_sample" not in json.loads((tiny_sdxl / "scheduler" / "scheduler_config.json").read_text())
    clipping = dict(type=kind, clip_sample=True)
    for chosen, clips in ((kind, False), (dict(type=kind, timestep_spacing="trailing"), False), (clipping, True)):
        options = model(tiny_sdxl, 1, dict(scheduler=chosen, num_inference_steps=1), kind="StableDiffusionXL")
        del options["type"]
        found = FineTuner(**{**options, "method": dict(type="DenoisingKD")}).scheduler()[0]
        assert type(found).__name__ == kind
        assert found.config.clip_sample is clips
