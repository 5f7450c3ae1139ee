"""fp16 on a CPU, where it can be hundreds of times slower than bf16, is named before any weight is loaded."""

import pytest
import runs

from diffdistill import errors
from diffdistill.benchmarks.inference import choose_protocol
from diffdistill.benchmarks.training import measure_training
from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.families.base import Family


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """And the first weights end the attempt."""
    errors.warn_once.cache_clear()
    monkeypatch.setattr("diffdistill.models.plan.get_device", lambda: "cpu")

    def refuse(*args, **kwargs):
        raise InputError("weights are loaded")

    monkeypatch.setattr(Family, "_load_denoiser", refuse)
    monkeypatch.setattr("diffdistill.sampling.samplers.pipeline_sampler", refuse)


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "bfloat16" in record.getMessage()]


@pytest.mark.parametrize(("dtype", "count"), [("float16", 1), ("bfloat16", 0), ("float32", 0)])
@pytest.mark.parametrize("tool", ["train", "test", "sample", "steps"])
def test_a_config_in_fp16_is_warned_of_on_a_cpu(tool, dtype, count, thin_sdxl, shapes_run, tmp_path, caplog):
    folder = ["--work-dir", tmp_path / "run"]
    student = ["--checkpoint", shapes_run.work_dir / "unet"]
    args = dict(
        train=["train", runs.SHAPES, *folder],
        test=["test", runs.SHAPES, *student, *folder],
        sample=["sample", runs.SHAPES, *student, "--prompt", "a", "--out", tmp_path / "out"],
        steps=["benchmark", "steps", runs.SHAPES, *student, "--steps", 1],
    )
    changes = runs.shapes(thin_sdxl, model__dtype=dtype)
    ended = runs.tool(*args[tool], *runs.options(**changes))
    assert "weights are loaded" in ended.err
    assert len(warnings_of(caplog)) == count
    assert all("model.dtype=float16" in warning for warning in warnings_of(caplog))


@pytest.mark.parametrize(("dtype", "count"), [("float16", 1), ("bfloat16", 0)])
def test_so_is_a_pipeline(dtype, count, thin_sdxl, tmp_path, caplog):
    ended = runs.tool("sample", thin_sdxl, "--prompt", "a", "--out", tmp_path / "out", "--dtype", dtype)
    assert "weights are loaded" in ended.err
    errors.warn_once.cache_clear()
    choose_protocol(device="cpu", dtype=dtype)
    assert warnings_of(caplog) == 2 * count * [
        "warning: --dtype=float16: most CPUs have no fp16 and take up to hundreds of times as long; give --dtype=bfloat16"
    ]


def test_so_is_a_training_that_is_measured(thin_sdxl, caplog):
    """Before random weights are made."""
    config = load_config(runs.SHAPES, {"model.dtype": "float16", "model.teacher.checkpoint": "/nowhere"})
    with pytest.raises(InputError, match="/nowhere"):
        measure_training(config, random_weights=True)
    assert len(warnings_of(caplog)) == 1


def test_a_summary_computes_nothing(thin_sdxl, caplog):
    ended = runs.tool("summary", runs.SHAPES, *runs.options(model__dtype="float16", model__teacher__checkpoint=thin_sdxl))
    assert ended.code == 0
    assert not warnings_of(caplog)
