"""The files of docs/extending.md, written out as they stand there, train in a folder outside the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest
import runs
import tiny
import tiny_text
import tiny_transformers
import torch
from PIL import Image

PAGE = (runs.ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
TINY = runs.options(
    train_cfg__max_iters=2,
    train_cfg__val_interval=100,
    train_dataloader__batch_size=2,
    val_dataloader__dataset__length=2,
    model__sampling__num_inference_steps=1,
    default_hooks__logger__interval=1,
    default_hooks__samples=None,
)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, tool: str, *args) -> runs.Ended:
    """Run a tool in a process and in the folder of the example, whose modules are found beside its config."""
    ended = runs.finish(runs.start(tool, *args, cwd=folder))
    assert ended.code == 0, ended
    return ended


def run_test(folder: Path, call: str) -> None:
    """Run a test of the example in a process of its own, as the classes that it registers would stay in this one."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(runs.ROOT)])}
    module, _, call = call.partition(":")
    command = [sys.executable, "-c", f"import {module} as t; t.{call}"]
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_example_trains(folder):
    ended = run(folder, "train", "my_student.py", *TINY)
    log = ended.out + ended.err
    assert set(re.findall(r"\bloss_(\w+):", log)) == {"task", "output", "feature"}
    parameters = re.search(r"Student \(([\d,]+) parameters\)", log)[1]
    assert f"here {parameters} of the teacher's" in PAGE
    assert (folder / "work_dirs" / "my_student" / "unet" / "config.json").exists()


def test_the_test_of_the_example_passes(folder):
    run_test(folder, "test_my_parts:test_only_the_direction_of_features_counts()")


def test_a_module_that_is_not_found_is_one_line(folder):
    (folder / "my_parts.py").rename(folder / "elsewhere.py")
    ended = runs.tool("summary", folder / "my_student.py")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "custom_imports.imports: my_parts cannot be imported" in ended.err


# A family


@pytest.fixture(scope="module")
def aura_flow(tmp_path_factory) -> Path:
    """A tiny pipeline of a kind that the project does not know, with the blocks of the published one."""
    tokens = tiny_text.t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = diffusers.AuraFlowPipeline(
            tokenizer=tokens,
            text_encoder=tiny_text.t5_encoder(tokens),
            vae=tiny.vae(scaling_factor=0.13025, force_upcast=True),
            transformer=diffusers.AuraFlowTransformer2DModel(
                **tiny_transformers.HEADED,
                sample_size=16,
                num_mmdit_layers=4,
                num_single_dit_layers=32,
                joint_attention_dim=tiny.WIDTH,
                caption_projection_dim=tiny_text.HEADS * tiny_text.HEAD,
                pos_embed_max_size=64,
            ).eval(),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
        )
    folder = tmp_path_factory.mktemp("pipelines") / "aura_flow"
    pipeline.save_pretrained(folder)
    return folder


def test_a_family_is_one_file(folder, aura_flow, captioned_folder):
    """From the config to a pipeline that plain diffusers loads, and which draws what the run draws."""
    changes = runs.published(
        aura_flow,
        captioned_folder,
        model__dtype="float32",
        train_dataloader__batch_size=2,
        optim_wrapper__accumulative_counts=1,
        default_hooks__checkpoint__interval=2,
    )
    log = run(folder, "train", "my_aura_flow.py", *runs.options(**changes))
    assert set(re.findall(r"\bloss_(\w+):", log.out + log.err)) == {"task", "output", "feature"}
    work_dir = folder / "work_dirs" / "my_aura_flow"
    whole = work_dir / "my_aura_flow.py"  # the complete config, which the run leaves
    run(folder, "export", whole, "exported", "--dtype", "float32")
    run(folder, "sample", whole, "--prompt", "a dog", "--out", "drawn")

    pipeline = diffusers.AuraFlowPipeline.from_pretrained(folder / "exported")
    pipeline.set_progress_bar_config(disable=True)
    blocks = pipeline.transformer.config
    assert (blocks.num_mmdit_layers, blocks.num_single_dit_layers) == (4, 16)
    options = dict(num_inference_steps=1, guidance_scale=3.5, height=32, width=32)
    picture = pipeline("a dog", generator=torch.Generator().manual_seed(0), **options).images[0]
    drawn, teachers = (np.asarray(Image.open(folder / "drawn" / f"{name}_0.png"), int) for name in ("student", "teacher"))
    assert np.abs(np.asarray(picture, int) - drawn).max() <= 1
    assert np.abs(teachers - drawn).max() > 1


def test_the_test_of_the_family_passes(folder, aura_flow):
    run_test(folder, f"test_my_family:test_sampling_by_predictions_is_the_pipelines({str(aura_flow)!r})")


def test_a_family_that_is_not_imported_is_one_line(folder, aura_flow):
    config = folder / "my_aura_flow.py"
    config.write_text(config.read_text().replace(', "my_family"', ""))
    ended = runs.tool("summary", config, *runs.options(model__teacher__checkpoint=aura_flow))
    assert ended.code == 2
    assert "AuraFlow" in ended.err
    assert "Traceback" not in ended.err
