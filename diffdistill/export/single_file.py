"""A student's whole pipeline in one file of the original layout, for programs that know no folders of diffusers."""

import base64
import datetime
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import diffusers
import torch
from mmengine.config import Config
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.export.card.licence import Licence, find_licence
from diffdistill.export.card.names import shown
from diffdistill.export.card.source import Source
from diffdistill.export.pipeline import finished_pipeline, open_trained
from diffdistill.export.readers import CPP, Readers
from diffdistill.families.checkpoint import PACKAGED, Checkpoint
from diffdistill.families.saving import published_name
from diffdistill.families.sdxl import StableDiffusionXL
from diffdistill.families.single_file import CONFIGS, ORIGIN, SUFFIX, V_PREDICTION, ZERO_TERMINAL_SNR
from diffdistill.families.unet import UNetFamily
from diffdistill.files import check_file, write_file_whole
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan
from diffdistill.original.parts import UNET, VAE, places, store, text_prefix
from diffdistill.sampling.grid import picture_in
from diffdistill.students.cut import state_on_meta
from diffdistill.students.size import count

HASH = "modelspec.hash_sha256"
UNKNOWN = "0x" + "0" * 64  # as long as any
THUMBNAIL = 256  # pixels, as the specification recommends
BLOCK = 2**22


def export_single_file(
    config: Config,
    checkpoint: str | None,
    out: str,
    dtype: str = "float16",
    fuse_lora: bool = False,
    averaged: bool | None = None,
    licence: str | None = None,
    names: str = "comfyui",
) -> list[str]:
    """Write the pipeline of `config` around what it trained to the file `out`; returns what users should know of it.

    `names` says for whom blocks are numbered: "comfyui" or "sd.cpp"; for the other arguments see `export_pipeline`. The
    metadata is that of ModelSpec 1.0.1. Raises InputError for a pipeline, an adapter or a cut that such a file cannot hold.
    """
    if not out.endswith(SUFFIX):
        raise InputError(f"OUT={out}: --single-file writes one file; name it *{SUFFIX}")
    check_file(out, "OUT")
    if Path(out).exists():
        raise InputError(f"OUT={out} is there already; name a new file")
    trained, source = open_trained(config, checkpoint, fuse_lora, averaged)
    plan = trained.plan
    check_layout(plan, fuse_lora)
    family = plan.family
    readers = Readers(plan.config, state_on_meta(family.denoiser_class, plan.config))
    if names == CPP and not readers.cpp:
        raise InputError(
            f"--names={CPP}: stable-diffusion.cpp reads uncut U-Nets of SD 1.x, 2.x and XL, SD-Tiny, SSD-1B and Vega, at"
            " their own widths; this cut is none of them"
        )
    model = trained.load(averaged).to("cpu").eval()
    found = find_licence(family.checkpoint, "teacher" if model.distills else "base", licence)
    metadata = describe(model, source, found, Path(out).stem, readers.whole)
    pipeline = finished_pipeline(model, dtype, fuse_lora)
    metadata |= {CONFIGS: json.dumps(config_files(pipeline, family.checkpoint)), ORIGIN: origin_of(family.checkpoint)}
    tensors = original_tensors(pipeline, gapped=names == CPP and readers.tiny)
    write_file_whole(lambda partial: write(tensors, metadata, partial), Path(out))
    return [out, *readers.lines(names, V_PREDICTION in tensors)]


def check_layout(plan: Plan, fuse_lora: bool) -> None:
    """Raise InputError for what a file in the original layout cannot hold."""
    family = plan.family
    if not isinstance(family, UNetFamily):
        raise InputError(
            f"--single-file: the original layout is that of SD 1.x, 2.x and XL, and this is a {type(family).__name__}; leave"
            " it out: the folder loads in diffusers, and in ComfyUI by its nodes for diffusers"
        )
    if plan.adapters and not fuse_lora:
        raise InputError("--single-file: an adapter has no place in the file; add --fuse-lora, or export a folder")
    if plan.embeds_guidance:
        raise InputError(
            "--single-file: the student embeds the guidance scale (time_cond_proj_dim), for which the original layout has no"
            " place; leave it out: the folder loads in diffusers"
        )


def original_tensors(pipeline: diffusers.DiffusionPipeline, gapped: bool = False) -> dict[str, Tensor]:
    """All tensors of a pipeline by their original names, with the marks of v-prediction; `gapped`: see `unet_places`."""
    xl = isinstance(pipeline, diffusers.StableDiffusionXLPipeline)
    prefixes = {"unet": UNET, "vae": VAE}
    for name in ("text_encoder", "text_encoder_2") if xl else ("text_encoder",):
        encoder = getattr(pipeline, name)
        # OpenAI's CLIP has a faster GELU of its own; OpenCLIP, of SD 2.x and SDXL's second encoder, has not.
        open_clip = name == "text_encoder_2" if xl else encoder.config.hidden_act == "gelu"
        prefixes[name] = text_prefix(name, xl, open_clip)
    tensors = {}
    for name, prefix in prefixes.items():
        state = getattr(pipeline, name).state_dict()
        state = {published_name(key): tensor for key, tensor in state.items()} if "text" in name else state
        tensors |= store(state, places(prefix, state, gapped and name == "unet"))
    config = pipeline.scheduler.config
    if config.prediction_type == "v_prediction":
        tensors[V_PREDICTION] = torch.tensor([])
    if config.get("rescale_betas_zero_snr"):
        tensors[ZERO_TERMINAL_SNR] = torch.tensor([])
    return tensors


def describe(model: DiffusionModel, source: Source, licence: Licence, title: str, whole: bool) -> dict[str, str]:
    """The metadata of ModelSpec 1.0.1 for the student of `model`; `whole` for an uncut U-Net.

    An architecture is named so that those that are to be run differently differ: a cut has its size in the name.
    """
    sampler, options = model.scheduler()
    xl, v_prediction = isinstance(model.family, StableDiffusionXL), sampler.config.prediction_type == "v_prediction"
    if xl:
        architecture = "stable-diffusion-xl-v1-base"
    elif model.frozen.pipeline.text_encoder.config.hidden_act == "gelu":
        architecture = "stable-diffusion-v2-768-v" if v_prediction else "stable-diffusion-v2-512"
    else:
        architecture = "stable-diffusion-v1"
    millions = count(model.student) / 1e6
    width, height = (options.get(side) or model.family.native_size for side in ("width", "height"))
    hint = [type(sampler).__name__, *(f"{key} {value}" for key, value in options.items() if isinstance(value, (int, float)))]
    fields = dict(
        sai_model_spec="1.0.1",
        architecture=architecture if whole else f"{architecture}-cut-{millions:.0f}m",
        implementation="sgm" if xl else "ldm",
        title=title,
        description=f"A U-Net of {millions:,.1f} M parameters, from {shown(model.family.checkpoint.name)} by diffdistill",
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        resolution=f"{width}x{height}",
        prediction_type="v" if v_prediction else "epsilon",
        usage_hint=", ".join(hint),
        license=licence.entries.get("license_name") or licence.entries.get("license"),
        thumbnail=thumbnail(source.grid),
    )
    return {f"modelspec.{key}": value for key, value in fields.items() if value}


def thumbnail(grid: Path | None) -> str | None:
    """The student's first picture in a run's grid, as a data URL of a small JPEG; None without a grid."""
    if grid is None:
        return None
    with Image.open(grid) as opened:
        picture = ImageOps.contain(picture_in(opened).convert("RGB"), (THUMBNAIL, THUMBNAIL))
    picture.save(content := io.BytesIO(), format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def write(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file: Path) -> None:
    """Write a safetensors file with the hash of all its tensors, which is known when they are written."""
    save_file(dict(tensors), file, {"format": "pt", **metadata, HASH: UNKNOWN})
    with file.open("r+b") as opened:
        header = opened.read(int.from_bytes(opened.read(8), "little"))
        found = hashlib.sha256()
        while block := opened.read(BLOCK):
            found.update(block)
        opened.seek(8 + header.index(UNKNOWN.encode()))
        opened.write(f"0x{found.hexdigest()}".encode())


def config_files(pipeline: diffusers.DiffusionPipeline, checkpoint: Checkpoint) -> dict[str, dict]:
    """Path -> content of the small files that a folder of the pipeline would have, but for its tokenizers."""
    index = {"_class_name": type(pipeline).__name__}
    known = checkpoint.read_json("model_index.json")
    for name, part in pipeline.config.items():
        if isinstance(part, (list, tuple)):
            given = getattr(pipeline, name, None)
            index[name] = list(part) if given is not None else [None, None]
        elif not name.startswith("_") and name in known:
            index[name] = part
    files = {"model_index.json": index}
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            config = part.config.to_dict() if hasattr(part.config, "to_dict") else dict(part.config)
            files[f"{name}/config.json"] = public(config)
    files["scheduler/scheduler_config.json"] = public(dict(pipeline.scheduler.config))
    return json.loads(json.dumps(files, default=str))


def public(config: Mapping) -> dict:
    """The entries of a config that are no paths of this machine."""
    return {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}


def origin_of(checkpoint: Checkpoint) -> str:
    """The pipeline whose tokenizers go with the file: a hub name or a pipeline of this package; "" for any other folder."""
    if checkpoint.single:
        return checkpoint.like.name
    return "" if checkpoint.is_folder and not checkpoint.name.startswith(PACKAGED) else checkpoint.name
