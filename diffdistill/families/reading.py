"""What a family reads of a pipeline's small files: which parts it has, and its noise."""

import inspect
from collections.abc import Mapping
from pathlib import Path

import diffusers

from diffdistill.errors import InputError
from diffdistill.files import read_json
from diffdistill.noise import FlowMatching, NoiseSchedule, ResolutionShift, VariancePreserving


def check_parts(family) -> list[str]:
    """The names of the parts that the pipeline of `family` has.

    Raises InputError for one that is missing, and for one that such a pipeline does not have.
    """
    checkpoint = family.checkpoint
    index = checkpoint.read_json("model_index.json")
    known = inspect.signature(family.pipeline_class).parameters
    there = [name for name, part in index.items() if isinstance(part, list) and part[0]]
    missing = [name for name in (family.denoiser_name, *family.models) if name not in (*there, *family.optional)]
    foreign = [name for name in there if name not in known]
    for problem, names in (("without", missing), ("with", foreign)):
        if names:
            raise InputError(
                f"{checkpoint.key}={checkpoint.name}: a {index.get('_class_name')} {problem} {', '.join(names)};"
                f" {family.key}.type {type(family).__name__} needs a {family.pipeline_class.__name__}"
            )
    return there


def vae_config(family) -> dict:
    """The config of the VAE of `family`: the pipeline's, or the one that its `vae` names."""
    return family.vae.read_json("config.json") if family.vae else family.checkpoint.read_json("vae/config.json")


def read_noise_schedule(family, config: Mapping) -> NoiseSchedule:
    """The noise schedule of training, from the `config` of the pipeline's own scheduler.

    Variance-preserving it is DDPM's, with the betas there; under flow matching it has the shift there. Raises InputError for
    a scheduler of the wrong kind.
    """
    name = config.get("_class_name") or ""
    where = f"{family.checkpoint.key}={family.checkpoint.name}: scheduler/scheduler_config.json is of a {name}"
    flows = name.startswith("FlowMatch") or config.get("use_flow_sigmas")
    if family.noise is VariancePreserving:
        kin = getattr(getattr(diffusers, name, None), "_compatibles", [])
        if flows or "DDIMScheduler" not in kin:
            raise InputError(f"{where}, which has no DDPM or DDIM form; needed is a scheduler of the kind of DDIMScheduler")
        return VariancePreserving.from_scheduler(diffusers.DDPMScheduler.from_config(config))
    if not flows:
        raise InputError(
            f"{where}, which does not sample flows; needed is a scheduler of the kind of FlowMatchEulerDiscreteScheduler"
        )
    shift = config.get("shift") or config.get("flow_shift") or 1.0
    if config.get("use_dynamic_shifting"):
        shift = ResolutionShift.from_config(config, family.patch)
    return FlowMatching(shift, length=config.get("num_train_timesteps", 1000), sigmas_given=family.sigmas_given)


def predicting(family, schedule: NoiseSchedule, prediction_type: str | None) -> NoiseSchedule:
    """`schedule` for what the family's denoiser predicts: `prediction_type`, or what the pipeline's own does.

    Raises InputError for a denoiser beside which a scheduler says otherwise.
    """
    if prediction_type:
        return schedule.predicting(prediction_type)
    if family.denoiser:
        check_predicts(family.denoiser, schedule, f"{family.key}.prediction_type")
    return schedule


def check_predicts(denoiser, schedule: NoiseSchedule, option: str) -> None:
    """Raise InputError for the Checkpoint of a denoiser beside which a scheduler says, as a run leaves one, that it predicts
    something else than `schedule` takes its outputs for. `option` is what would set that right.
    """
    if not denoiser.is_folder or not isinstance(schedule, VariancePreserving):
        return
    folder = Path(denoiser.path)
    places = (place / "scheduler" / "scheduler_config.json" for place in (folder, folder.parent))
    file = next((place for place in places if place.is_file()), None)
    said = file and read_json(file, f"{denoiser.key}={denoiser.name}: {file}").get("prediction_type")
    if said and said != schedule.prediction_type:
        raise InputError(
            f"{denoiser.key}={denoiser.name} predicts {said}, by the scheduler beside it, and would be taken for one that"
            f" predicts {schedule.prediction_type}; set {option}={said}"
        )


def check_resolution(family, height: int, width: int, where: str) -> None:
    """Raise InputError, naming the place `where`, for pictures that do not split into whole tokens of `family`."""
    side = family.vae_scale * family.patch
    if height % side or width % side:
        near = [max(round(length / side), 1) * side for length in (height, width)]
        raise InputError(
            f"{where}: pictures of {height} x {width} do not split into the tokens of a {type(family).__name__}, which are"
            f" {side} pixels wide; the nearest is {near[0]} x {near[1]}"
        )
    most = family.denoiser_config.get("pos_embed_max_size")  # of SD3, which has learned a place for so many tokens
    if most and max(height, width) > most * side:
        raise InputError(f"{where}: pictures of {height} x {width} are larger than its denoiser knows places: {most * side}")
