"""Reading a pipeline of Stable Diffusion from one file in the original layout, as ComfyUI and A1111 have them.

Such a file holds the models and no configs: that of the U-Net follows from the layers that are there, the others are those
of a pipeline of its kind. A file of `diffdistill export --single-file` has its configs in its metadata.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.saving import published_name
from diffdistill.original.parts import CLIP, OPEN_CLIP, TEXT, UNET, VAE, Place, fetch, places
from diffdistill.original.unet import kept_layers, read_names
from diffdistill.students.cut import build, build_on_meta, first_difference, state_on_meta
from diffdistill.students.denoisers.rules import rules_of

SUFFIX = ".safetensors"
CONFIGS, ORIGIN = (
    "diffdistill.configs",
    "diffdistill.origin",
)  # metadata: the config files, and whose tokenizers they go with
V_PREDICTION, ZERO_TERMINAL_SNR = "v_pred", "ztsnr"  # empty tensors, by which programs know such a model
CONV_IN = "input_blocks.0.0.weight"
CONTEXT = ".transformer_blocks.0.attn2.to_k.weight"
# Channels of the text that a U-Net takes -> a pipeline of its kind. SD 2's may predict epsilon or v, which no file says.
KINDS = {768: "stable-diffusion-v1-5/stable-diffusion-v1-5", 2048: "stabilityai/stable-diffusion-xl-base-1.0"}
LOST = ("embeddings.position_ids",)  # of older versions of transformers; always 0, 1, 2, ...


def is_single_file(path: str) -> bool:
    """Whether `path` is a file that may hold a pipeline or a denoiser."""
    return path.endswith(SUFFIX) and Path(path).is_file()


class SingleFile:
    """A U-Net in the original layout and, where the file is of a whole pipeline, its VAE and text encoders.

    Opening it reads names and shapes alone. Raises InputError, beginning with `where`, for a damaged file or another layout.
    """

    def __init__(self, path: str, where: str):
        self.path, self.where = path, where
        try:
            with safe_open(path, framework="pt") as file:
                self.metadata = file.metadata() or {}
                self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            raise InputError(f"{where} is cut short or damaged; get it again") from None
        self.unet = next((prefix for prefix in (UNET, "") if prefix + CONV_IN in self.shapes), None)
        if self.unet is None:
            raise InputError(
                f"{where} holds no U-Net in the original layout ({UNET}{CONV_IN}); needed is a checkpoint of SD 1.x, 2.x or"
                " XL as ComfyUI and A1111 read it; give anything else as a folder in the format of diffusers"
            )

    @cached_property
    def prefixes(self) -> dict[str, str]:
        """Model of the pipeline that is in the file -> what stands before its tensors."""
        found = {"unet": self.unet} | ({"vae": VAE} if f"{VAE}encoder.conv_in.weight" in self.shapes else {})
        for place, encoder in TEXT.items():
            for kind, name in (
                (CLIP, "text_model.embeddings.token_embedding.weight"),
                (OPEN_CLIP, "token_embedding.weight"),
            ):
                if place + kind + name in self.shapes:
                    found[encoder] = place + kind
        return found

    @cached_property
    def unet_names(self) -> dict[str, Place]:
        """Name of a tensor of diffusers' U-Net -> its place."""
        names = [name.removeprefix(self.unet) for name in self.shapes if name.startswith(self.unet)]
        return {name: Place(self.unet + original) for original, name in read_names(names).items()}

    @property
    def configs(self) -> dict[str, dict]:
        """Path of a config file -> its content, of a file that `diffdistill export` has written; else {}."""
        try:
            found = json.loads(self.metadata.get(CONFIGS, "{}"))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(content, dict) for content in found.values()):
            raise InputError(f"{self.where} is damaged: {CONFIGS} in its metadata is no dict of configs; get it again")
        return found

    @property
    def origin(self) -> str | None:
        """A pipeline of its kind, whose tokenizers are those of the file; None where the file does not tell."""
        if self.metadata.get(ORIGIN):
            return self.metadata[ORIGIN]
        widths = {shape[-1] for name, shape in self.shapes.items() if name.endswith(CONTEXT)}
        return KINDS.get(widths.pop()) if len(widths) == 1 else None

    def denoiser_config(self, denoiser_class: type, base: Mapping, name: str) -> dict:
        """The config of the U-Net, from that of the pipeline `name` of its kind, `base`, and the layers that are there.

        Raises InputError where the U-Net is no cut of such a base.
        """
        rules, names = rules_of(denoiser_class), self.unet_names
        base = {key: value for key, value in build_on_meta(denoiser_class, base).config.items() if not key.startswith("_")}
        kept = kept_layers(names, len(base["down_block_types"]))
        config = dict(base)
        if len(kept["down_blocks"]) == len(kept["up_blocks"]) <= len(base["down_block_types"]):
            config = rules.thin(base, kept)
        config["_class_name"] = denoiser_class.__name__
        there = {name: torch.empty(self.shapes[place.name], device="meta") for name, place in names.items()}
        if difference := first_difference(there, state_on_meta(denoiser_class, config)):
            raise InputError(f"{self.where}: its U-Net is no cut of that of {name}: {difference}")
        return config

    def scheduler_config(self, base: Mapping) -> dict:
        """The config of the scheduler, from that of a `base`, with what the file's marks say."""
        if V_PREDICTION in self.shapes:
            base = {**base, "prediction_type": "v_prediction"}
        if ZERO_TERMINAL_SNR in self.shapes:
            base = {**base, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return dict(base)

    def check(self, names: list[str]) -> None:
        """Raise InputError where a model in `names` is not in the file."""
        missing = [name for name in names if name not in self.prefixes]
        if missing:
            extra = "; set vae to the folder of one" if missing == ["vae"] else ""
            raise InputError(f"{self.where} has no {', '.join(missing)}, so it is no whole pipeline{extra}")

    def load(self, name: str, model_class: type, config: Mapping) -> nn.Module:
        """The model `name` of the pipeline in fp32, in eval mode. Raises InputError where its tensors are not all there."""
        self.check([name])
        with torch.device("meta"):
            model = build_like(model_class, config)
        published = {key: published_name(key) if name.startswith("text") else key for key in model.state_dict()}
        where = self.unet_names if name == "unet" else places(self.prefixes[name], published.values())
        expected = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith(LOST)}
        absent = sorted(key for key in expected if where.get(published[key], Place("")).name not in self.shapes)
        if absent:
            raise InputError(
                f"{self.where}: {len(absent)} tensors of its {name} are missing, such as {absent[0]}; is its config that of"
                " another kind?"
            )
        with safe_open(self.path, framework="pt") as file:
            found = fetch({published[key]: where[published[key]] for key in expected}, file.get_tensor)
        state = {key: found[published[key]].float() for key in expected}
        if difference := first_difference(state, expected):
            raise InputError(f"{self.where}: its {name} is not that of its config: {difference}")
        model.load_state_dict(state, strict=False, assign=True)
        fill_tables(model)
        return model.eval()


def build_like(model_class: type, config: Mapping) -> nn.Module:
    """A model of diffusers or transformers, built from its config."""
    if hasattr(model_class, "config_class"):
        return model_class(model_class.config_class.from_dict(dict(config)))
    return build(model_class, config)


def fill_tables(model: nn.Module) -> None:
    """Put numbers into what is in no file: the positions of a text encoder, counted from 0."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(module, name, torch.arange(buffer.shape[-1]).expand(buffer.shape).clone())
