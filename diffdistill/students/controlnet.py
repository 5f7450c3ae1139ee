"""ControlNets (Zhang et al., 2023) beside a student: which of the teacher's residuals it takes.

A ControlNet adds a residual to each input of the way up and one to the mid block's output. A student with fewer layers has
fewer inputs; those that it has follow from the layer map.
"""

from collections.abc import Mapping

import torch
from diffusers import ControlNetModel
from diffusers.models.controlnets.controlnet import ControlNetOutput

from diffdistill.students.cut import LayerMap


class SelectedControlNet(ControlNetModel):
    """A teacher's ControlNet that returns the residuals that a student takes: `config.residuals`, by number.

    Where `config.middle` is False, the student's deepest latents are larger than the teacher's: it gets a residual of zeros.
    """

    @classmethod
    def around(cls, controlnet: ControlNetModel, residuals: list[int], middle: bool) -> "SelectedControlNet":
        """`controlnet` itself, which is one of this class from now on."""
        controlnet.__class__ = cls
        controlnet.register_to_config(residuals=residuals, middle=middle)
        return controlnet

    @classmethod
    def extract_init_dict(cls, config: Mapping, **options) -> tuple[dict, dict, dict]:
        """What diffusers builds a model from; without what the plain class does not know, of which it would warn."""
        own = {key: config[key] for key in ("residuals", "middle")}
        init, unused, hidden = super().extract_init_dict({k: v for k, v in config.items() if k not in own}, **options)
        return init, unused, {**hidden, **own}

    def forward(self, *args, return_dict: bool = True, **options):
        """What `ControlNetModel.forward` returns, with the student's residuals alone."""
        downs, mid = super().forward(*args, return_dict=False, **options)
        downs = [downs[number] for number in self.config.residuals]
        mid = mid if self.config.middle else torch.zeros_like(downs[-1])
        return ControlNetOutput(downs, mid) if return_dict else (downs, mid)


def residual_layers(config: Mapping) -> dict[str, int]:
    """The layers of the way down whose outputs the way up takes, in their order -> channels; of a U-Net or ControlNet."""
    widths, depth = config["block_out_channels"], config["layers_per_block"]
    layers = {"conv_in": widths[0]}
    for stage, width in enumerate(widths):
        for layer in range(depth if isinstance(depth, int) else depth[stage]):
            layers[f"down_blocks.{stage}.resnets.{layer}"] = width
        if stage < len(widths) - 1:
            layers[f"down_blocks.{stage}.downsamplers.0"] = width
    return layers


def chosen_residuals(teacher: Mapping, student: Mapping, layers: LayerMap) -> list[int]:
    """The numbers of those of the teacher's residuals that the student takes, from both configs: its own layers'."""
    numbers = {name: number for number, name in enumerate(residual_layers(teacher))}
    return [numbers[layers.to_teacher(name)] for name in residual_layers(student)]


def has_same_depth(teacher: Mapping, student: Mapping) -> bool:
    """Whether the deepest latents of both are of one size, so that the teacher's last residual fits."""
    return len(teacher["block_out_channels"]) == len(student["block_out_channels"])
