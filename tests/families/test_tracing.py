"""What is traced of a pipeline's models, and which sizes stay free."""

import tiny
import tiny_transformers
import torch

from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_pipeline
from diffdistill.families.tracing import denoiser_part, parts_of, traced_size


def test_parts_of_a_pipeline(tmp_path):
    """Of SD3 with T5: CLIP has as many tokens as places, T5 any number; a VAE gives its decoder."""
    folder = tiny_transformers.write_sd3(tmp_path / "sd3", t5=True)
    parts = parts_of(load_pipeline(Checkpoint(str(folder), "source")))
    assert set(parts) == {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}
    assert parts["text_encoder"].free == dict(input_ids={0: "batch"})
    assert parts["text_encoder_3"].free == dict(input_ids={0: "batch", 1: "tokens"})
    assert parts["vae"].free == dict(latent_sample={0: "batch", 2: "height", 3: "width"})
    assert parts["transformer"].free["encoder_hidden_states"] == {0: "batch", 1: "tokens"}


def test_names_are_those_of_optimum():
    """So that its pipelines find inputs and outputs."""
    part = denoiser_part(tiny.sdxl_unet(layers_per_block=1, transformer_layers_per_block=1))
    assert list(part.inputs) == ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"]
    assert part.outputs == ["out_sample"]


def test_a_unet_is_traced_at_a_size_that_does_not_halve():
    """At one that does, it would double every side on its way up, and odd sizes would fail."""
    unet = tiny.sd_unet()
    assert traced_size(unet) % 2
    assert denoiser_part(unet).inputs["sample"].shape[-1] == traced_size(unet)


def test_the_call_is_the_models_own():
    unet = tiny.sd_unet(time_cond_proj_dim=8)
    part = denoiser_part(unet)
    sample, timestep, text, scale = part.inputs.values()
    with torch.no_grad():
        expected = unet(sample, timestep, encoder_hidden_states=text, timestep_cond=scale).sample
        assert torch.equal(part.call(*part.inputs.values())[0], expected)
