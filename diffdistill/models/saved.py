"""What a run leaves of what it trained, on disk: whole models in diffusers' format, adapters for diffusers or peft."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import peft
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint, check_tensors
from diffdistill.families.loading import load_model
from diffdistill.families.reading import check_predicts
from diffdistill.families.saving import name_in, published_name, save_model
from diffdistill.files import write_whole
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan
from diffdistill.students.cut import first_difference
from diffdistill.students.quantization import bake, quantized_layers

LORA_FILE, PEFT_FILE = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"  # diffusers' and peft's names
DORA = "lora_magnitude_vector"


def trained_whole(model: DiffusionModel) -> dict[str, nn.Module]:
    """The models that are trained whole, by name."""
    return {name: model.component(name) for name in model.trained if name not in model.adapted}


def save_models(models: Mapping[str, nn.Module], folder: Path) -> list[Path]:
    """Write every one of `models` to `folder/<name>`; returns these folders.

    Of quantised layers the values are written that they compute with, so that the model draws in plain diffusers what it
    drew here; their full weights are in the run's checkpoints.
    """
    models = {name: bake(copy.deepcopy(model)) if quantized_layers(model) else model for name, model in models.items()}
    return [write_whole(partial(save_model, model), folder / name) for name, model in models.items()]


def save_adapters(model: DiffusionModel, folder: Path) -> Path:
    """Write the adapters of `model` to `folder`, whole or not at all; returns the folder.

    Those of LoRA and DoRA go into one file for `pipe.load_lora_weights(folder)`, which also says their alpha; any other, and
    those of a pipeline that cannot load them, into `folder/<component>` for `peft.PeftModel.from_pretrained`.
    """
    return write_whole(lambda partial: write_adapters(model, partial), folder)


def write_adapters(model: DiffusionModel, folder: Path) -> None:
    """Write the adapters of `model` into `folder`, in the files that `save_adapters` names, beside what is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    for_diffusers, save = {}, getattr(model.family.pipeline_class, "save_lora_weights", None)
    known = inspect.signature(save).parameters if save else ()
    for name in model.adapted:
        component = model.component(name)
        config, weights = component.peft_config["default"], adapter_state(component)
        if config.peft_type == peft.PeftType.LORA and f"{name}_lora_layers" in known:
            if name in model.family.text_encoders:  # transformers, which loads them, knows DoRA's vectors by the longer name
                weights = {published_name(key) + ".weight" * key.endswith(DORA): value for key, value in weights.items()}
            for_diffusers[f"{name}_lora_layers"] = weights
            # diffusers rebuilds the layers in train mode, where they would go on dropping. peft does so in eval mode.
            for_diffusers[f"{name}_lora_adapter_metadata"] = config.to_dict() | dict(lora_dropout=0.0)
        else:
            config.save_pretrained(folder / name)
            save_file({f"base_model.model.{key}": tensor for key, tensor in weights.items()}, folder / name / PEFT_FILE)
    if for_diffusers:
        save(folder, **for_diffusers)


def adapter_state(component: nn.Module) -> dict[str, Tensor]:
    """The weights of a model's adapter, under the names that peft uses in files."""
    return {key: tensor.contiguous() for key, tensor in peft.get_peft_model_state_dict(component).items()}


def adapter_files(folder: Path, adapted: Sequence[str]) -> list[str]:
    """What `write_adapters` wrote into `folder`: the file for diffusers, and the folders of components for peft."""
    names = [name for name in adapted if (folder / name / PEFT_FILE).exists()]
    return [LORA_FILE, *names] if (folder / LORA_FILE).exists() else names


def load_trained(model: DiffusionModel, folder: Path) -> None:
    """Load into `model` what a run like its own left in `folder`; see `find_trained`.

    Raises InputError for files that are missing or of another config.
    """
    for name in model.trained:
        component, where = model.component(name), find_trained(folder, name, name in model.adapted)
        if name in model.adapted:
            found = read_adapter(where, name)
            if name in model.family.text_encoders:
                found = {name_in(component, key): tensor for key, tensor in found.items()}
            check_weights(found, adapter_state(component), str(where))
            peft.set_peft_model_state_dict(component, found)
        else:
            if name == model.family.denoiser_name:
                source = Checkpoint(str(where), "--checkpoint")
                check_predicts(source, model.noise_schedule, f"{model.section}.prediction_type")
                found = model.family.load_student(source)
            else:
                found = load_model(Checkpoint(str(where), "--checkpoint"), type(component))
            check_weights(found.state_dict(), component.state_dict(), str(where))
            component.load_state_dict(found.state_dict())


def read_adapter(where: Path, name: str) -> dict[str, Tensor]:
    """The weights of the adapter of component `name` in the file `where`, under the names of `adapter_state`."""
    prefix = "base_model.model." if where.name == PEFT_FILE else f"{name}."
    weights = {key.replace(f"{DORA}.weight", DORA): tensor for key, tensor in load_file(where).items()}
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}


def find_trained(folder: Path, name: str, adapter: bool) -> Path:
    """The file of the adapter, or the folder of the model, of the component `name` that a run left.

    `folder` is the `step<N>` folder of an adapter, the folder of one model, or the run's own; beside a component the others
    of its run are found as well. Raises InputError if it is not there.
    """
    places = [folder / name, folder if folder.name == name else folder.parent / name]
    files = [folder / name / PEFT_FILE, folder / LORA_FILE] if adapter else [place / "config.json" for place in places]
    for file in files:
        if file.exists():
            return file if adapter else file.parent
    wanted = f"{LORA_FILE} or {name}/{PEFT_FILE}, such as a step<N> folder of its run" if adapter else f"{name}/"
    raise InputError(f"--checkpoint={folder}: this config trains {name}, and the folder has no {wanted}")


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: str) -> None:
    """Raise InputError unless both have the same tensors; MMEngine would load those that fit, and go on."""
    if difference := first_difference(found, expected):
        raise InputError(
            f"{file} is not a checkpoint of this config's student: {difference}; give the config that it was trained with"
        )


def check_trained(plan: Plan, folder: Path) -> None:
    """Raise InputError unless `folder` has all that a run of `plan` leaves, undamaged. No weight is read."""
    for name in plan.on_meta:
        found = find_trained(folder, name, name in plan.adapters)
        if name in plan.adapters:
            check_tensors(found, f"--checkpoint={folder}")
        else:
            Checkpoint(str(found), "--checkpoint").check_components([""])


def last_adapter(run: Path) -> Path | None:
    """The last `step<N>` folder of a run."""
    return max((path for path in run.glob("step*") if step_of(path) is not None), key=step_of, default=None)


def step_of(folder: Path) -> int | None:
    """N of the folder `step<N>` of an adapter, the number of its last iteration, counted from 0; None of any other name."""
    number = folder.name.removeprefix("step")
    return int(number) if folder.name.startswith("step") and number.isdigit() else None
