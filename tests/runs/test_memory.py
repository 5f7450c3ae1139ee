"""Whole runs with the lines that save memory: they resume exactly."""

import importlib.util
import shutil

import pytest
import runs
import torch

from diffdistill.config.read import find_config

BITSANDBYTES, TORCHAO = (importlib.util.find_spec(name) is not None for name in ("bitsandbytes", "torchao"))
STEPS = dict(
    train_cfg__max_iters=4,
    train_cfg__val_interval=100,
    default_hooks__checkpoint__interval=2,
    default_hooks__checkpoint__max_keep_ckpts=2,
)
RELEASED = dict(optim_wrapper__type="OptimizerInBackward", optim_wrapper__clip_grad=None)
EIGHT_BITS = 'optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW8bit", lr=1e-3))\n'


def tensors(state, name=""):
    """Every tensor of a nested state, by its place."""
    if isinstance(state, torch.Tensor):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {place: tensor for key, value in items for place, tensor in tensors(value, f"{name}.{key}").items()}


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        pytest.param(EIGHT_BITS, {}, marks=pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")),
        ("", RELEASED | dict(model__gradient_checkpointing="[down_blocks.0,up_blocks.1]", model__teacher__offload=True)),
        pytest.param(
            "",
            dict(model__teacher__quantize="int8"),
            marks=pytest.mark.skipif(not TORCHAO, reason="torchao is not installed"),
        ),
    ],
    ids=["8-bit optimizer", "released, chosen blocks, offload", "8-bit teacher"],
)
def test_a_run_that_saves_memory_resumes_exactly(text, changes, thin_sdxl, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(f'_base_ = ["{find_config(runs.SHAPES)}"]\n{text}')
    options = runs.shapes(thin_sdxl, **STEPS, **changes)
    straight = runs.trained(config, tmp_path / "straight", options).work_dir
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(straight / "iter_2.pth", resumed)
    (resumed / "last_checkpoint").write_text("iter_2.pth")
    runs.trained(config, resumed, options, "--resume")
    half, *both = (tensors(runs.checkpoint(folder, step)) for folder, step in ((straight, 2), (straight, 4), (resumed, 4)))
    assert both[0].keys() == both[1].keys()
    assert not [name for name, tensor in both[0].items() if not torch.equal(tensor, both[1][name])]
    assert any(not torch.equal(tensor, both[0][name]) for name, tensor in half.items() if name.startswith(".state_dict"))
    if text:
        assert any(tensor.dtype == torch.uint8 for name, tensor in both[0].items() if name.startswith(".optimizer"))
