"""How to use an exported pipeline: lines of Python that load it in plain diffusers and sample it as its validation did."""

import inspect
import json
from collections.abc import Mapping

from mmengine.config import Config

from diffdistill.models.base import DiffusionModel
from diffdistill.models.saved import LORA_FILE


def usage(model: DiffusionModel, config: Config, name: str, dtype: str, files: list[str], quantized: bool = False) -> str:
    """A snippet that draws one picture. `name` is what to load; `files` of adapters stand in it beside the base."""
    sampler, options = model.scheduler()
    loads = [quoted(name)] + ([f"torch_dtype=torch.{dtype}"] if dtype != "float32" or quantized else [])
    loads += [f"{part}=None" for part in absent_parts(model)]
    lines = [f"pipeline = DiffusionPipeline.from_pretrained({', '.join(loads)}).to(device)"]
    imports = ["import torch", "from diffusers import DiffusionPipeline"]
    if LORA_FILE in files:
        lines.append(f"pipeline.load_lora_weights({quoted(name)})")
    if folders := {part: quoted(f"{name}/{part}") for part in files if part != LORA_FILE}:
        imports[0:0] = ["import peft"]
        lines += [f"pipeline.{part} = peft.PeftModel.from_pretrained(pipeline.{part}, {at})" for part, at in folders.items()]
    base = model.exported_scheduler()
    plain = type(sampler).from_config(base.config)
    changes = {key: value for key, value in sampler.config.items() if plain.config.get(key) != value and key[0] != "_"}
    if type(sampler) is not type(base) or changes:
        imports[-1] += f", {type(sampler).__name__}"
        given = "".join(f", {key}={value!r}" for key, value in changes.items())
        lines.append(f"pipeline.scheduler = {type(sampler).__name__}.from_config(pipeline.scheduler.config{given})")
    call = ["prompt", *(f"{key}={value!r}" for key, value in call_options(model, options).items())]
    lines.append(f"image = pipeline({', '.join(call)}).images[0]")
    first = ['device = "cuda" if torch.cuda.is_available() else "cpu"', f"prompt = {quoted(prompt(config))}"]
    return "\n".join([*imports, "", *first, *lines])


def command(model: DiffusionModel, config: Config, name: str) -> str:
    """The command that draws one picture with a pipeline that was exported for a runtime, in the folder `name`."""
    _, options = model.scheduler()
    words = ["mim run diffdistill sample", name, "--prompt", quoted(prompt(config))]
    for key, option in (("num_inference_steps", "--steps"), ("guidance_scale", "--guidance-scale")):
        if key in options:
            words += [option, f"{options[key]:g}"]
    return " ".join(words)


def absent_parts(model: DiffusionModel) -> list[str]:
    """The parts that the pipeline is saved without, and that diffusers wants to be told of: SD3's T5 and its tokenizer."""
    family, parts = model.family, model.frozen.pipeline.components
    optional = (family.denoiser_name, *family.pipeline_class._optional_components)
    return [name for name, part in parts.items() if part is None and name not in optional]


def call_options(model: DiffusionModel, options: Mapping) -> dict:
    """The arguments of the pipeline's call: `options`, and what the family adds where the call has another default."""
    defaults = inspect.signature(model.family.pipeline_class.__call__).parameters
    own = {key: value for key, value in model.family.call_options.items() if defaults[key].default != value}
    return {**own, **options}


def usage_note(model: DiffusionModel, measured: bool, quantized: bool = False) -> str:
    """Says where the snippet's steps and guidance scale come from, and which other scales can be chosen."""
    note = f"Steps and guidance scale are those of its {'validation' if measured else 'config'}."
    if "guidance_scale" in model.student_sampling:
        if model.student_sampling["guidance_scale"] > 1:
            note += " The scale is an input of the denoiser: any value of the trained range costs one call a step."
        else:
            note += " Guidance is folded into the weights: leave the scale at 1, so that a step is one call."
    if quantized:
        note += " The quantised weights need `pip install torchao`, and `torch_dtype` as it stands here."
    return note


def quoted(text: str) -> str:
    """`text` as a string of Python in double quotes; JSON escapes as Python does."""
    return json.dumps(text, ensure_ascii=False)


def prompt(config: Config) -> str:
    """A prompt that the run drew samples for; "a photo of a dog" where it drew none."""
    samples = (config.get("default_hooks") or {}).get("samples") or {}
    return next(iter(samples.get("prompts") or []), "a photo of a dog")
