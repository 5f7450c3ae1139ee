"""How fast a worker loads, measured through the command, and what the plain loop beside it makes of the same files."""

import json

import numpy as np
import pytest
import runs
import torch
from PIL import Image

from diffdistill.benchmarks.data import Loading
from diffdistill.datasets import CaptionedImages

CONFIG = """
_base_ = ["diffdistill::_base_/datasets/captioned.py"]
train_dataloader = dict(dataset=dict(
    source={source!r}, pipeline=[dict(type="ResizeCrop", size=24), dict(type="RandomFlip"), dict(type="PackInputs")]))
"""


@pytest.fixture
def config(captioned_folder, tmp_path):
    """Captioned pictures at 24 x 24."""
    (tmp_path / "pictures.py").write_text(CONFIG.format(source=str(captioned_folder)))
    return tmp_path / "pictures.py"


def test_both_loops_are_timed(config, tmp_path):
    words = ("--rounds", 2, "--warmup", 1, "--json", tmp_path / "figures.json")
    ended = runs.tool("benchmark", "data", config, *words)
    assert ended.code == 0, ended
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["size"], figures["rounds"], figures["pictures"]) == ([24, 24], 2, 12)
    rows = {row["part"]: row for row in figures["rows"]}
    assert rows["plain"]["of_plain"] == 1
    assert all(row["pictures_per_second"] > 0 for row in rows.values())
    assert "Files in, tensors of 24 x 24 out" in ended.out


def test_both_loops_make_nearly_the_same_pictures(tmp_path):
    """They differ by where the plain loop rounds: it resizes the whole picture to whole pixels first."""
    for number, (height, width) in enumerate([(60, 91), (77, 50)]):
        values = np.stack(
            [np.add.outer(np.arange(height), np.arange(width)) % 128 + 10 * channel for channel in range(3)], -1
        )
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,wide\n1.png,high\n")
    pipeline = [dict(type="ResizeCrop", size=40), dict(type="PackInputs")]
    loading = Loading(CaptionedImages(str(tmp_path), pipeline=pipeline), (40, 40))
    loading.choose()
    torch.manual_seed(0)
    for ours, plain in zip(loading.ours(), loading.plain(), strict=True):
        assert ours.shape == plain.shape == (3, 40, 40)
        assert min((ours - plain).abs().mean(), (ours - plain.flip(-1)).abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["train_dataloader.dataset.type=CaptionStream"], "is a CaptionedImages with a ResizeCrop in its pipeline"),
        (["train_dataloader.dataset.pipeline=[]"], "is a CaptionedImages with a ResizeCrop in its pipeline"),
    ],
)
def test_what_cannot_be_measured_is_one_line(config, options, words):
    runs.assert_one_line(runs.tool("benchmark", "data", config, "--cfg-options", *options), words)


def test_no_rounds_are_one_line(config):
    runs.assert_one_line(runs.tool("benchmark", "data", config, "--rounds", 0), "--rounds 0: give 1 or more")
