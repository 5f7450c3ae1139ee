"""Several students and the teacher in one table, each figure with its protocol."""

import json

import pytest
import runs

from diffdistill.errors import InputError
from diffdistill.evaluation.checkpoints import read_labels
from diffdistill.evaluation.seeds import accuracy_table
from diffdistill.metrics.protocol import check_same, protocol_of, sampling_settings, split
from diffdistill.metrics.record import figures_of
from diffdistill.models.distiller import Distiller

SHARED = dict(
    n=2, captions="shapes captions, half of them held out", seed=0, scheduler="DPMSolverMultistepScheduler", steps=1,
    guidance_scale=3.0, resolution=[32, 32],
)  # fmt: skip


@pytest.fixture
def test_tool(thin_sdxl, tmp_path):
    def run(*args, **changes) -> runs.Ended:
        options = runs.options(**runs.shapes(thin_sdxl, **changes))
        return runs.tool("test", runs.SHAPES, *args, "--work-dir", tmp_path / "run", *options)

    return run


def test_one_table_has_the_figures_of_the_run(shapes_run, test_tool, tmp_path):
    """Teacher and student as after the last step, the student of step 3 beside; checkpoints also as mim gives them."""
    run = shapes_run.work_dir
    ended = test_tool(f"trained={run / 'unet'}", "--launcher", "none", f"half={run / 'iter_3.pth'}", "--teacher")
    assert ended.code == 0, ended
    results = json.loads((tmp_path / "run" / "test" / "results.json").read_text())
    records = results["results"]
    assert results["config"] == "small_sd_xl_shapes"
    assert [(record["model"], record["checkpoint"]) for record in records] == [
        ("teacher", None), ("trained", str(run / "unet")), ("half", str(run / "iter_3.pth")),
    ]  # fmt: skip
    recorded = json.loads((run / "results.json").read_text())["validation"]
    expected = [record for record in recorded if record["model"] == "teacher" or record["step"]]
    steps = {"teacher": expected[0], "half": expected[1], "trained": expected[2]}
    for record in records:
        assert figures_of(record) == figures_of(steps[record["model"]])
        assert record["protocol"] == steps[record["model"]]["protocol"]
    lines = ended.out.splitlines()
    protocol = next(number for number, line in enumerate(lines) if line.startswith("2 shapes captions"))
    assert "DPMSolverMultistepScheduler, 1 steps, guidance scale 3; 32 x 32 pixels" in lines[protocol]
    assert lines[protocol + 2].split() == ["teacher", "trained", "half"]
    assert [line.split()[0] for line in lines if line.strip().startswith("accuracy")] == ["accuracy"]


def test_a_stage_is_measured_far_from_the_stage_before_it(shapes_run, thin_sdxl, tmp_path):
    """Its first weights are that stage's student, which a folder of finished weights does not have beside it."""
    config = tmp_path / "staged.py"
    config.write_text(f"_base_ = ['diffdistill::shapes/{runs.SHAPES}']\nstages = [dict(name='a'), dict(name='b')]\n")
    args = (config, "--checkpoint", shapes_run.work_dir / "unet", "--teacher", "--work-dir", tmp_path / "run")
    ended = runs.tool("test", *args, *runs.options(**runs.shapes(thin_sdxl)))
    assert ended.code == 0, ended
    measured = json.loads((tmp_path / "run" / "test" / "results.json").read_text())["results"]
    recorded = json.loads((shapes_run.work_dir / "results.json").read_text())["validation"]
    assert [record["accuracy"] for record in measured] == [recorded[0]["accuracy"], recorded[-1]["accuracy"]]


def test_weights_of_another_prediction_are_refused(shapes_run, test_tool):
    """A training may begin with them, where the config says how they are read; what is measured is what was trained."""
    ended = test_tool("--checkpoint", shapes_run.work_dir / "unet", model__student__prediction_type="v_prediction")
    assert ended.code == 2, ended
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: --checkpoint={shapes_run.work_dir / 'unet'} predicts epsilon")
    assert line.endswith("set model.student.prediction_type=epsilon")


def test_every_record_of_a_run_carries_its_protocol(shapes_run):
    records = json.loads((shapes_run.work_dir / "results.json").read_text())["validation"]
    assert len(records) == 4
    for record in records:
        assert protocol_of(record, "accuracy") == dict(metric="CaptionAccuracy", **SHARED)
        assert {"accuracy", "shape", "n"} <= set(record["protocol"]["metrics"]["CaptionAccuracy"]["figures"])


@pytest.mark.parametrize(
    ("sampling", "settings"),
    [
        ({}, dict(scheduler="PNDMScheduler", steps=50, guidance_scale=7.5, resolution=[32, 32])),  # the pipeline's own
        (
            dict(scheduler="DDIMScheduler", num_inference_steps=4, guidance_scale=1.0, height=16, width=24, eta=1.0),
            dict(scheduler="DDIMScheduler", steps=4, guidance_scale=1.0, resolution=[16, 24], eta=1.0),
        ),
    ],
)
def test_the_protocol_says_how_pictures_are_sampled(tiny_sd, sampling, settings):
    losses = dict(task=dict(type="TaskLoss"))
    assert (
        sampling_settings(
            Distiller(teacher=dict(type="StableDiffusion", checkpoint=tiny_sd), losses=losses, sampling=sampling)
        )
        == settings
    )


def record(model="student", step=9, accuracy=1.0, **settings) -> dict:
    metrics = dict(CaptionAccuracy=dict(figures=["accuracy", "n"]), FID=dict(figures=["fid"], resize=256))
    protocol = {**SHARED, "metrics": metrics, **settings}
    return dict(model=model, step=step, accuracy=accuracy, n=2, protocol=protocol)


def result(config: str, **settings) -> dict:
    return dict(
        config=config, seed=0, steps=9, seconds_per_step=1.0, student=dict(parameters=1),
        validation=[record("teacher", 0, **settings), record("student", 0, **settings), record(**settings)],
    )  # fmt: skip


def test_other_metrics_of_a_record_do_not_matter():
    alone = dict(CaptionAccuracy=dict(figures=["accuracy"]))
    assert check_same([record(), record(metrics=alone)], "accuracy") == dict(metric="CaptionAccuracy", **SHARED)
    assert protocol_of(record(), "fid") == dict(metric="FID", resize=256, **SHARED)


def test_figures_of_two_protocols_are_refused_or_split():
    with pytest.raises(InputError, match="accuracy: figures of steps=1 and steps=25"):
        check_same([record(), record(steps=25)], "accuracy")
    rows = accuracy_table([result("a"), result("b", steps=25), result("c")])
    assert [row["config"] for row in rows] == ["a", "c", "b"]
    tables = split(rows, lambda row: row["protocol"])
    assert [(protocol["steps"], [row["config"] for row in members]) for protocol, members in tables] == [
        (1, ["a", "c"]), (25, ["b"]),
    ]  # fmt: skip


def test_labels(tmp_path):
    assert read_labels(["runs/a/unet"]) == {"student": "runs/a/unet"}
    assert read_labels(["runs/a/unet", "KD=runs/b/unet"]) == {"a/unet": "runs/a/unet", "KD": "runs/b/unet"}
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert read_labels([str(odd)]) == {"student": str(odd)}
    with pytest.raises(InputError, match="label 'KD' is taken"):
        read_labels(["KD=a", "KD=b"])
