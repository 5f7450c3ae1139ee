"""What is traced of a pipeline: one call of each of its models, with example inputs and the sizes that stay free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import diffusers
import torch
from torch import Tensor, nn

from diffdistill.families.known import denoiser_of
from diffdistill.families.runtimes import HIDDEN
from diffdistill.students.denoisers.rules import rules_of


@dataclass(frozen=True)
class Part:
    """What is traced of a model: the `call` on tensors, example `inputs` by name, and the names of what it returns.

    Batch, height and width of latents stay free, and the number of tokens, but of an encoder that has a place for each.
    """

    model: nn.Module
    call: Callable[..., Sequence[Tensor]]
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]

    @property
    def free(self) -> dict[str, dict[int, str]]:
        """Name of an input -> its free dimensions, by name."""
        sides = {0: "batch", 2: "height", 3: "width"}
        found = {name: sides if tensor.ndim == 4 else {0: "batch"} for name, tensor in self.inputs.items()}
        if "encoder_hidden_states" in found:
            found["encoder_hidden_states"] = {0: "batch", 1: "tokens"}
        if "input_ids" in found and clip_length(self.model) is None:
            found["input_ids"] = {0: "batch", 1: "tokens"}
        return found


def denoiser_part(denoiser: nn.Module) -> Part:
    """One call of a denoiser, batch 2."""
    rules, config = rules_of(type(denoiser)), denoiser.config
    nested = rules.inputs(config, traced_size(denoiser))
    if rules.embeds_guidance(config) and isinstance(denoiser, diffusers.UNet2DConditionModel):
        nested["timestep_cond"] = torch.zeros(1, config[rules.guidance_key])
    flat = {}
    for name, value in nested.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    inputs = {name: torch.randn(2, *value.shape[1:]) for name, value in flat.items()}
    inputs["timestep"] = torch.tensor([3.0, 500.0])  # some schedulers have fractions

    def call(*tensors: Tensor) -> tuple[Tensor]:
        given = dict(zip(inputs, tensors, strict=True))
        arguments = {
            name: {key: given[key] for key in value} if isinstance(value, Mapping) else given[name]
            for name, value in nested.items()
        }
        return denoiser(**arguments, return_dict=False)

    return Part(denoiser, call, inputs, ["out_" + next(iter(inputs))])


def traced_size(denoiser: nn.Module) -> int:
    """The width of the latents that a denoiser is traced with.

    A UNet that can halve it without a rest would fix its upsampling to factors of two; so traced, it takes any size.
    """
    if isinstance(denoiser, diffusers.UNet2DConditionModel):
        return 2 ** len(denoiser.up_blocks) + 1
    return min(rules_of(type(denoiser)).latent_size(denoiser.config), 8 * denoiser.config.patch_size)


def clip_length(encoder: nn.Module) -> int | None:
    """The number of tokens that a text encoder has places for; None for T5's, which knows distances alone."""
    return getattr(encoder.config, "max_position_embeddings", None)


def text_part(encoder: nn.Module) -> Part:
    """A text encoder, with what it says after every layer."""

    def call(ids: Tensor) -> list[Tensor]:
        found = encoder(ids, output_hidden_states=True)
        return [tensor for _, tensor in flat_outputs(found)]

    ids = torch.ones(2, clip_length(encoder) or 77, dtype=torch.long)
    with torch.no_grad():
        outputs = [name for name, _ in flat_outputs(encoder(ids, output_hidden_states=True))]
    return Part(encoder, call, dict(input_ids=ids), outputs)


def flat_outputs(found: Mapping) -> list[tuple[str, Tensor]]:
    """The tensors of a text encoder's output by name; those of its layers are numbered."""
    single = [(name, value) for name, value in found.items() if isinstance(value, Tensor)]
    return single + [(f"{HIDDEN}{number}", tensor) for number, tensor in enumerate(found.hidden_states)]


def vae_part(vae: nn.Module) -> Part:
    """The decoder of a VAE, on latents in its own scale."""
    latents = torch.randn(2, vae.config.latent_channels, 4, 4)
    return Part(vae, lambda z: vae.decode(z, return_dict=False), dict(latent_sample=latents), ["sample"])


def parts_of(pipeline: diffusers.DiffusionPipeline) -> dict[str, Part]:
    """The parts of a pipeline by the names of its models, which are brought to fp32 on the CPU."""
    found, denoiser = {}, denoiser_of(pipeline)
    for name, model in pipeline.components.items():
        if not isinstance(model, nn.Module):
            continue
        nn.Module.to(model, "cpu", torch.float32)
        if name.startswith("text_encoder"):
            found[name] = text_part(model)
        else:
            found[name] = denoiser_part(model) if model is denoiser else vae_part(model)
    return found
