"""Whether a student of few steps is trained at the timesteps at which its sampler will ask it."""

from collections.abc import Mapping

import torch

from diffdistill.errors import InputError
from diffdistill.models.plan import Plan, scheduler_class
from diffdistill.noise import VariancePreserving


def check_grid(plan: Plan, chosen: str | Mapping | None, steps: int | None) -> None:
    """Raise InputError where the method's grid is not that of the sampler, which takes `steps` steps.

    `chosen` is `model.sampling.scheduler`; None: the pipeline's own. Of a flow, whose times depend on the size of the
    picture, only their number is compared.
    """
    grid, schedule = plan.method.sampler_times, plan.noise_schedule
    if steps != len(grid):
        raise InputError(
            f"model.method.timesteps are {len(grid)}, and model.sampling.num_inference_steps={steps}: a student of few steps"
            " is trained at those that it is sampled with; give both the same number"
        )
    if not isinstance(schedule, VariancePreserving):
        return
    own = plan.family.checkpoint.read_json("scheduler/scheduler_config.json")
    changes = dict(chosen) if isinstance(chosen, Mapping) else dict(type=chosen or own["_class_name"])
    kind = scheduler_class(changes.pop("type"))
    sampler = kind.from_config(own, **{**schedule.scheduler_changes(kind, "model.sampling.scheduler"), **changes})
    sampler.set_timesteps(steps)
    trained = grid.times(schedule, torch.empty(0)).tolist()
    asked = sorted({round(float(time)) for time in sampler.timesteps})
    if asked != trained:
        raise InputError(
            f"model.method.timesteps are {trained}, and {kind.__name__} asks for {asked} in {steps} steps; give these to"
            " GridTimesteps, or to model.sampling the scheduler of the student"
        )
