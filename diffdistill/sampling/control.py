"""Pictures under a ControlNet: a picture beside the prompt, for pipelines of SD 1.x, 2.x and XL."""

from pathlib import Path

import diffusers
import torch
from PIL import Image

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_model
from diffdistill.students.controlnet import SelectedControlNet, residual_layers

KINDS = {
    diffusers.StableDiffusionPipeline: diffusers.StableDiffusionControlNetPipeline,
    diffusers.StableDiffusionXLPipeline: diffusers.StableDiffusionXLControlNetPipeline,
}


class Control:
    """A ControlNet and the picture that it looks at.

    Args:
        folder: of a ControlNet in the format of diffusers, or what `transfer_controlnet` has made for a student.
        image: the file of the picture, which is drawn in its size.
    """

    def __init__(self, folder: str, image: str):
        self.checkpoint = Checkpoint(folder, "--controlnet")
        kinds = {kind.__name__: kind for kind in (diffusers.ControlNetModel, SelectedControlNet)}
        config = self.checkpoint.read_json("config.json")
        if config.get("_class_name") not in kinds:
            raise InputError(f"--controlnet={folder} is a {config.get('_class_name')}; needed is a {' or '.join(kinds)}")
        self.checkpoint.check_components([""])
        self.kind = kinds[config["_class_name"]]
        try:
            with Image.open(Path(image)) as opened:
                self.picture = opened.convert("RGB")
        except OSError:
            raise InputError(f"--control-image={image} is no picture that can be read") from None

    def around(self, pipeline: diffusers.DiffusionPipeline, source: str) -> diffusers.DiffusionPipeline:
        """The pipeline of the same parts that draws under the control. Raises InputError where it does not fit."""
        if type(pipeline) not in KINDS:
            raise InputError(
                f"--controlnet: {source} is a {type(pipeline).__name__}; ControlNets are for SD 1.x, 2.x and XL"
            )
        unet = pipeline.unet
        controlnet = load_model(self.checkpoint, self.kind).to(unet.device, unet.dtype).eval()
        given, taken = (list(residual_layers(model.config).values()) for model in (controlnet, unet))
        if self.kind is SelectedControlNet:
            given = [given[number] for number in controlnet.config.residuals]
        if given != taken or controlnet.config.cross_attention_dim != unet.config.cross_attention_dim:
            raise InputError(
                f"--controlnet={self.checkpoint.name}: it gives {len(given)} residuals of widths {sorted(set(given))}, and"
                f" the U-Net of {source} takes {len(taken)} of widths {sorted(set(taken))}; transfer_controlnet fits a"
                " teacher's to its student"
            )
        parts = dict(pipeline.components, controlnet=controlnet)
        extra = dict(requires_safety_checker=False) if "safety_checker" in parts else dict(add_watermarker=False)
        return KINDS[type(pipeline)](**parts, **extra)

    @property
    def options(self) -> dict[str, torch.Tensor | Image.Image]:
        """What the pipeline's call is told of it."""
        return dict(image=self.picture)
