"""Every tool once in a process of its own: nothing that an earlier training has set up may be needed."""

import json

import published
import pytest
import runs

pytestmark = pytest.mark.processes

WITHOUT_VALIDATION = ("val_evaluator=None", "val_dataloader=None", "val_cfg=None")


@pytest.fixture
def alone(thin_sdxl, shapes_run, tmp_path):
    """Run a tool by itself, in an empty folder."""

    def run(name: str, *args, **changes) -> str:
        arguments = [*args]
        err = changes.pop("err", None)
        if changes.pop("config", True):
            arguments += runs.options(model__teacher__checkpoint=thin_sdxl, **changes)
        ended = runs.finish(runs.start(name, *arguments, cwd=tmp_path))
        assert ended.code == 0, ended
        assert "Traceback" not in ended.err
        assert err is None or ended.err == err
        return ended.out

    return run


def test_losses_of_a_config_without_a_validation(alone, shapes_run, tmp_path):
    out = alone(
        "test", runs.SHAPES, "--checkpoint", shapes_run.work_dir / "unet", "--batches", 2, "--json", tmp_path / "found.json",
        val_evaluator=None, val_dataloader=None, val_cfg=None, train_dataloader__batch_size=2,
    )  # fmt: skip
    assert "means over training batches" in out
    (record,) = json.loads((tmp_path / "found.json").read_text())["results"]
    assert {"loss_task", "loss_output", "loss_feature"} < record.keys()


def test_metrics_of_a_checkpoint(alone, shapes_run):
    out = alone(
        "test", runs.SHAPES, "--checkpoint", shapes_run.work_dir / "iter_6.pth",
        val_dataloader__dataset__length=2, model__sampling__num_inference_steps=1,
    )  # fmt: skip
    assert "accuracy" in out


def test_sample_export_and_sample_again(alone, shapes_run, tmp_path):
    alone("sample", runs.SHAPES, "--checkpoint", shapes_run.work_dir / "unet", "--prompt", "a dog", "--steps", 1)
    assert (tmp_path / "samples" / "grid.png").exists()
    alone("export", runs.SHAPES, shapes_run.work_dir / "unet", tmp_path / "pipeline")
    alone("sample", tmp_path / "pipeline", "--prompt", "a dog", "--steps", 1, "--out", tmp_path / "again", config=False)
    assert (tmp_path / "again" / "grid.png").exists()


def test_summary_of_a_config_by_its_name(alone):
    """Whose teacher is not on the disk; the JSON is all that is printed."""
    figures = json.loads(alone("summary", "bk_sdm_tiny_distill_from_sd_14_laion_212k", "--json", config=False, err=""))
    assert figures["student"]["parameters"] == published.PARAMETERS["bk_sdm_tiny"] < figures["teacher"]["parameters"]
    assert {"parts", "gmacs", "gmacs_without_attention"} <= figures["student"].keys()
    assert ["down_blocks.2.attentions.0.proj_out", "down_blocks.2.attentions.1.proj_out"] in figures["pairs"]


def test_an_untrained_student(alone, tmp_path):
    alone("make_student", runs.SHAPES, tmp_path / "unet")
    assert (tmp_path / "unet" / "config.json").exists()


def test_the_page_of_a_run(alone, shapes_run, tmp_path):
    alone("report", shapes_run.work_dir, "--out", tmp_path / "page.html", config=False)
    assert "<html" in (tmp_path / "page.html").read_text()


def test_benchmark_of_a_training_step(alone):
    out = alone("benchmark", "training", runs.SHAPES, "--rounds", 1, "--warmup", 1, train_dataloader__batch_size=2)
    assert "bare torch loop" in out


def test_scores_by_sampling_steps(alone, shapes_run):
    out = alone(
        "benchmark", "steps", runs.SHAPES, "--checkpoint", shapes_run.work_dir / "unet", "--steps", 1,
        val_dataloader__dataset__length=2,
    )  # fmt: skip
    assert "accuracy" in out


def test_a_transformer_through_every_tool(sd3_config, sd3_run, tmp_path):
    """Its own config, so that no tool needs a change of it."""
    run = lambda name, *args: runs.finish(runs.start(name, *args, cwd=tmp_path))  # noqa: E731
    student = sd3_run.work_dir / "transformer"
    commands = [
        ("train", sd3_config, "--work-dir", "run"),
        ("test", sd3_config, student),
        ("export", sd3_config, student, "pipeline", "--dtype", "float32"),
        ("sample", "pipeline", f"{sd3_config}={student}", "--prompt", "a dog", "--steps", 1),
        ("make_student", sd3_config, "untrained"),
        ("benchmark", "inference", "pipeline", "untrained", "--rounds", 1, "--warmup", 1, "--steps", 1),
        ("benchmark", "steps", sd3_config, "--checkpoint", student, "--steps", 1),
    ]
    for command in commands:
        ended = run(*command)
        assert ended.code == 0, ended
        assert "Traceback" not in ended.err
    assert (tmp_path / "run" / "transformer" / "config.json").exists()
    assert (tmp_path / "samples" / "grid.png").exists()
