"""Older versions of libraries, each installed into an environment of its own. They come from the package index."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import runs
import torch
from embeddings import embeddings
from safetensors import safe_open
from safetensors.torch import load_file

from diffdistill.families.checkpoint import ASSETS

pytestmark = pytest.mark.environments
PYPROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
LOWER_BOUND = re.search(r'"transformers>=([\d.]+),', PYPROJECT)[1]


@pytest.fixture(scope="module", params=[LOWER_BOUND, "5.5.4"])
def older(request, tmp_path_factory) -> Path:
    """A folder with an older transformers and what it needs, to stand before this environment's on the path.

    5.5.4 is the last one that knows only the prefixed names of text encoders.
    """
    folder = tmp_path_factory.mktemp("older")
    options = ["-q", "--disable-pip-version-check", "--no-compile", "--retries", "1", "--timeout", "20", "--target", folder]
    command = [sys.executable, "-m", "pip", "install", *map(str, options), f"transformers=={request.param}"]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        reason = f"transformers {request.param} cannot be installed: {installed.stderr.strip().splitlines()[-1]}"
        (pytest.fail if os.environ.get("REQUIRE_INDEX") else pytest.skip)(reason)
    return folder


@pytest.fixture(scope="module")
def exported(shapes_run, thin_sdxl, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "out"
    ended = runs.tool("export", runs.SHAPES, shapes_run.work_dir / "unet", out, *runs.options(**runs.shapes(thin_sdxl)))
    assert ended.code == 0, ended
    return out


def test_older_transformers_reads_the_same_text_encoders(older, exported, tmp_path):
    sources = {exported: 6, ASSETS / "sdxl_shapes": 6, ASSETS / "sd_shapes": 3}
    script = Path(__file__).parent / "helpers" / "embeddings.py"
    command, env = [sys.executable, script, tmp_path, *sources], {**os.environ, "PYTHONPATH": str(older)}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for number, (folder, outputs) in enumerate(sources.items()):
        out = tmp_path / f"{number}.safetensors"
        with safe_open(out, framework="pt") as opened:
            assert Path(older, f"transformers-{opened.metadata()['transformers']}.dist-info").is_dir()
        ours, theirs = embeddings(folder), load_file(out)
        assert ours.keys() == theirs.keys()
        assert len(ours) == outputs
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), (folder, name, (tensor - theirs[name]).abs().max())
            assert tensor.std() > 0.1
