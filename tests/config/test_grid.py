"""A student of few steps is trained at the timesteps of its sampler, or the config is refused."""

import json

import pytest

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
