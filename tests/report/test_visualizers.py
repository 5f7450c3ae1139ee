"""TensorBoard and Weights & Biases by one line of a config: the same scalars and grids as in the run's folder."""

import re

import numpy as np
import pytest
import runs
from PIL import Image


@pytest.fixture
def train_with(thin_sdxl, tmp_path):
    def train(backend: str) -> runs.Ended:
        config = tmp_path / "own.py"
        config.write_text(
            f'_base_ = ["{runs.ROOT / "configs/shapes/small_sd_xl_shapes_task_only.py"}"]\n'
            f'visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="{backend}")])\n'
        )
        return runs.trained(config, tmp_path / "run", runs.shapes(thin_sdxl, **runs.SAMPLES))

    return train


def losses(ended: runs.Ended) -> list[float]:
    return [float(value) for value in re.findall(r"loss_task: (\S+)", ended.out)]


def test_tensorboard(train_with):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ended = train_with("TensorboardVisBackend")
    (file,) = ended.work_dir.glob("*/vis_data/events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    found = events.Scalars("loss_task")
    assert [event.step for event in found] == [1, 2]
    assert [event.value for event in found] == pytest.approx(losses(ended), abs=1e-4)
    assert {"lr", "loss", "grad_norm", "accuracy"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("accuracy")] == [0, 2]  # untrained and trained
    (image,) = events.Images("samples")
    grid = Image.open(ended.work_dir / "samples" / "step_2.png").convert("RGB")
    assert (image.step, image.width, image.height) == (2, *grid.size)
    (run_folder,) = ended.work_dir.glob("*/vis_data/scalars.json")
    assert '"loss_task"' in run_folder.read_text()  # the local log is still there


def test_weights_and_biases(train_with, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)  # whose Python files MMEngine uploads: nothing of this project
    ended = train_with("WandbVisBackend")
    (folder,) = ended.work_dir.glob("*/vis_data/wandb/offline-run-*")
    (image,) = folder.glob("files/media/images/samples_*.png")
    grid = Image.open(ended.work_dir / "samples" / "step_2.png").convert("RGB")
    assert np.array_equal(np.asarray(Image.open(image).convert("RGB")), np.asarray(grid))
    (log,) = folder.glob("run-*.wandb")
    written = log.read_bytes()
    assert all(name in written for name in (b"loss_task", b"grad_norm", b"accuracy"))
