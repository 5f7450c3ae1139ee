"""LoRAs of transformers and their text encoders: trained by a FineTuner, loaded by plain diffusers, or by peft."""

import peft
import pytest
import torch
from kinds import TOKENS, Loaded

from diffdistill.models.saved import load_trained, save_adapters
from diffdistill.registry import MODELS

LORA = dict(type="LoraConfig", r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
OF_TEXT = dict(text_encoder=dict(type="LoraConfig", r=2, target_modules=["q_proj"], init_lora_weights=False))


def finetuner(loaded: Loaded, **changes):
    base = dict(type=type(loaded.family).__name__, checkpoint=str(loaded.folder), max_sequence_length=TOKENS)
    losses = dict(task=dict(type="TaskLoss"))
    return MODELS.build(dict(type="FineTuner", base=base, adapter=LORA, losses=losses, **changes))


@pytest.mark.parametrize("name", ["sd3", "flux", "pixart", "sana", "qwen"])
def test_an_adapter_alone_is_trained_and_says_the_same_elsewhere(load, name, tmp_path):
    """The denoiser with the saved adapter, in plain diffusers (PixArt-Sigma's pipeline loads none: by peft)."""
    loaded = load(name)
    changes = dict(text_encoder_adapter=OF_TEXT) if name in ("sd3", "flux") else {}
    model = finetuner(loaded, **changes).eval()
    batch = dict(pixel_values=torch.rand(2, 3, 32, 32) * 2 - 1, caption=["a red circle", ""])
    sum(model(mode="loss", **batch).values()).backward()
    # Qwen-Image's last block drops its text.
    assert all(weight.grad is not None for weight in model.trained.parameters()) or name == "qwen"
    assert not any(weight.requires_grad for key, weight in model.student.named_parameters() if "lora" not in key)
    folder = save_adapters(model, tmp_path / "step0")

    with torch.no_grad():
        latents, condition = model.encode(batch)
        times = torch.tensor([300, 700])
        ours = model.family.predict(model.student, latents, times, condition)
        plain = loaded.family.pipeline_class.from_pretrained(loaded.folder, **loaded.given)
        denoiser = plain.transformer.requires_grad_(False)
        before = model.family.predict(denoiser, latents, times, condition)
        if hasattr(plain, "load_lora_weights"):
            plain.load_lora_weights(folder)
        else:
            denoiser = peft.PeftModel.from_pretrained(denoiser, folder / "transformer").base_model.model
        theirs = model.family.predict(denoiser, latents, times, condition)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours - before).abs().max() > 1e-4

    again = finetuner(loaded, **changes)
    load_trained(again, folder)
    for key, weight in model.trained.state_dict().items():
        assert torch.equal(weight, again.trained.state_dict()[key]), key
