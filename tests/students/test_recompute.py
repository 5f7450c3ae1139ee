"""Gradient checkpointing of chosen blocks: the same gradients, and as many bytes as the blocks that are left out say."""

import pytest
import tiny
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import nn

from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.recompute import check_recomputed, recompute


def saved_bytes(denoiser: nn.Module) -> tuple[int, dict[str, torch.Tensor]]:
    """The bytes that one forward pass saves for backward, parameters left out, and the gradients."""
    torch.manual_seed(0)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in denoiser.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage
        return tensor

    inputs = {
        name: torch.randn(value.shape) if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in rules_of(type(denoiser)).inputs(denoiser.config, 16).items()
    }
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = denoiser(**inputs)[0].square().mean()
    size = sum(storage.nbytes() for storage in storages.values())
    loss.backward()
    return size, {name: parameter.grad for name, parameter in denoiser.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(
    ("kind", "some", "every"),
    [
        ("tiny_sd", ["down_blocks.0", "up_blocks.3"], ["down_blocks.*", "mid_block", "up_blocks.*"]),
        ("tiny_sd3", ["transformer_blocks.[01]"], ["transformer_blocks"]),
    ],
)
def test_chosen_blocks_save_some_of_the_bytes_and_change_no_gradient(kind, some, every, request):
    folder = request.getfixturevalue(kind)
    model_class, name = (UNet2DConditionModel, "unet") if kind == "tiny_sd" else (SD3Transformer2DModel, "transformer")
    results = []
    for choice in (False, some, every, True):
        denoiser = model_class.from_pretrained(folder, subfolder=name)
        results.append(saved_bytes(recompute(denoiser.train(), choice)))
    none, part, whole, all_ = [size for size, _ in results]
    assert none > part > whole == all_
    for _, gradients in results[1:]:
        torch.testing.assert_close(gradients, results[0][1], rtol=1e-5, atol=1e-9)


def test_a_pattern_reaches_the_layers_inside_and_no_others():
    unet = recompute(tiny.sd_unet().train(), ["down_blocks.1.attentions.0"])
    runs = dict.fromkeys(["down_blocks.1.attentions.0", "down_blocks.1.attentions.1", "down_blocks.1.resnets.0"], 0)

    def count(name):
        def hook(*_):
            runs[name] += 1

        return hook

    for name in runs:
        module = unet.get_submodule(name)
        (module.transformer_blocks[0] if "attentions" in name else module).register_forward_pre_hook(count(name))
    saved_bytes(unet)
    assert list(runs.values()) == [2, 1, 1]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("down_blocks.0", r"^model\.gradient_checkpointing='down_blocks\.0': give True, False, or a list of blocks[^\n]*$"),
        ([], r"^model\.gradient_checkpointing=\[\]: give"),
        ([3], r"^model\.gradient_checkpointing=\[3\]: give"),
        (["conv_in"], r"^model\.gradient_checkpointing: 'conv_in' chooses nothing .* blocks are down_blocks\.0, [^\n]*$"),
        (["down_blocks.0", "down_block.1"], r"'down_block\.1' chooses nothing"),
    ],
)
def test_what_chooses_nothing_is_refused(choice, message):
    unet = tiny.sd_unet()
    with pytest.raises(InputError, match=message):
        check_recomputed(type(unet), unet.config, choice)


@pytest.mark.parametrize("choice", [True, False, ["down_blocks.[01]"], ("mid_block.attentions.0",)])
def test_good_choices_pass(choice):
    unet = tiny.sd_unet()
    check_recomputed(type(unet), unet.config, choice)
