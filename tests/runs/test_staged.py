"""Runs in stages on tiny pipelines of the real topology: swaps of teachers, shrinking chains, and resuming anywhere."""

import json
import shutil
from pathlib import Path

import published
import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel
from staged import assert_equal, launch, weights

from diffdistill.config.read import find_config, load_config
from diffdistill.config.stages import last_stage, plan_stages, stage_configs
from diffdistill.config.summary import summarize
from diffdistill.errors import InputError
from diffdistill.families.architectures import planning
from diffdistill.report.data import read_run
from diffdistill.students.cut import build_on_meta
from diffdistill.students.weights import make_student

BASE = """
_base_ = ["{base}"]
model = dict(
    dtype="float32",
    teacher=dict(checkpoint="{teacher}", vae=None),
    gradient_checkpointing=False,
    losses=dict(_delete_=True, task=dict(type="TaskLoss"), output=dict(type="OutputKD")),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        source="{pictures}", pipeline=[dict(type="ResizeCrop", size=32), dict(type="RandomFlip"), dict(type="PackInputs")]
    ),
)
train_cfg = dict(max_iters=4)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-2))
default_hooks = dict(checkpoint=dict(interval=2), samples=dict(prompts=None), logger=dict(interval=1))
"""
SD_TINY = find_config("sd_tiny_distill_from_realistic_vision_4_laion_art")
SSD_1B = find_config("ssd_1b_distill_from_sdxl_pokemon_blip")


@pytest.fixture(scope="module")
def other_teacher(tmp_path_factory) -> Path:
    return tiny.write_sd(tmp_path_factory.mktemp("pipelines") / "other", seed=1)


@pytest.fixture(scope="module")
def other_sdxl(tmp_path_factory) -> Path:
    return tiny.write_sdxl(tmp_path_factory.mktemp("pipelines") / "other_sdxl", seed=1)


@pytest.fixture
def config_file(tmp_path, tiny_sd, tiny_sdxl, captioned_folder):
    def write(stages: str, base: Path = SD_TINY) -> Path:
        teacher = tiny_sd if base == SD_TINY else tiny_sdxl
        text = BASE.format(base=base.resolve(), teacher=teacher, pictures=captioned_folder)
        file = tmp_path / "two_stages.py"
        file.write_text(f"{text}stages = {stages}\n")
        return file

    return write


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*/*.log")))


def test_resume_in_any_stage_equals_the_straight_run(config_file, other_teacher, tmp_path):
    swap = f"[dict(name='first'), dict(name='second', model=dict(teacher=dict(checkpoint={str(other_teacher)!r})))]"
    file = config_file(swap)
    straight = launch(file, tmp_path / "straight")
    expected = weights(straight / "unet")
    assert_equal(expected, weights(straight / "stage_2_second" / "unet"))
    first = weights(straight / "stage_1_first" / "unet")
    assert any(not torch.equal(first[name], expected[name]) for name in expected)

    # Stopped in the middle of stage 2, after its checkpoint at step 2.
    stop = "[dict(name='first'), dict(name='second', custom_hooks=[dict(type='StopAt', step=3)], model=dict(teacher=dict("
    stopped = config_file(f"{stop}checkpoint={str(other_teacher)!r})))]")
    with pytest.raises(RuntimeError, match="stopped"):
        launch(stopped, tmp_path / "resumed")
    assert not (tmp_path / "resumed" / "unet").exists()
    trained = (tmp_path / "resumed" / "stage_1_first" / "results.json").stat().st_mtime_ns
    resumed = launch(config_file(swap), tmp_path / "resumed", "auto")
    assert_equal(weights(resumed / "unet"), expected)
    assert (resumed / "stage_1_first" / "results.json").stat().st_mtime_ns == trained, "stage 1 was trained again"
    assert "stage 2 of 2: second" in log_of(resumed / "stage_2_second")

    # Started again without --resume and stopped in stage 1: what the finished run left in stage 2 must not be taken.
    with pytest.raises(RuntimeError, match="stopped"):
        launch(
            config_file(stop.replace("'first'", "'first', custom_hooks=[dict(type='StopAt', step=3)]", 1) + ")))]"), straight
        )
    assert not (straight / "stage_2_second" / "results.json").exists()
    assert_equal(weights(launch(config_file(swap), straight, "auto") / "unet"), expected)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_what_is_damaged_of_a_finished_stage_is_made_again(config_file, tmp_path):
    file = config_file("[dict(name='first', train_cfg=dict(max_iters=2)), dict(name='second', train_cfg=dict(max_iters=1))]")
    run = launch(file, tmp_path / "run")
    expected, figures = weights(run / "unet"), json.loads((run / "results.json").read_text())
    for damaged in (
        "results.json",
        "stage_1_first/results.json",
        "stage_2_second/results.json",
        "stage_1_first/unet/diffusion_pytorch_model.safetensors",
        "stage_2_second/unet/config.json",
    ):
        others = [path for path in run.glob("stage_*/results.json") if path.parent != run / Path(damaged).parts[0]]
        made = [path.stat().st_mtime_ns for path in others]
        cut_short(run / damaged)
        launch(file, run, "auto")
        found = json.loads((run / "results.json").read_text())
        for stage, again in zip(figures["stages"], found["stages"], strict=True):
            assert stage["losses"] == again["losses"], damaged
            assert stage["validation"] == again["validation"], damaged
        assert_equal(weights(run / "unet"), expected)
        assert [path.stat().st_mtime_ns for path in others] == made, damaged  # the other stages stay as they are
    student = run / "stage_1_first" / "unet"  # a kill between the two renames of an export
    shutil.copytree(student, student.with_name(".unet.partial"))
    student.rename(student.with_name(".unet.old"))
    (run / "report.html").unlink()
    launch(file, run, "auto", **{"default_hooks.report": None})
    assert_equal(weights(run / "unet"), expected)
    assert not (run / "report.html").exists(), "a run without a report"
    assert not list(run.rglob(".*"))


def test_each_stage_starts_from_the_student_before_it(config_file, tiny_sdxl, other_sdxl, tmp_path):
    """Without a learning rate, a swap of teachers changes nothing, and shrinking leaves the kept tensors as they are."""
    ssd_1b = load_config("ssd_1b_distill_from_sdxl_pokemon_blip").model.student.keep.to_dict()
    vega = load_config("vega_distill_from_sdxl_pokemon_blip").model.student.keep.to_dict()
    stages = [
        dict(name="ssd_1b", train_cfg=dict(max_iters=2)),
        dict(
            name="swapped",
            model=dict(teacher=dict(checkpoint=str(other_sdxl))),
            optim_wrapper=dict(optimizer=dict(lr=0.0, weight_decay=0.0)),
        ),
        dict(
            name="vega",
            model=dict(teacher=dict(denoiser="previous"), student=dict(keep=dict(vega, _delete_=True))),
            optim_wrapper=dict(optimizer=dict(lr=0.0, weight_decay=0.0)),
        ),
    ]
    file = config_file(repr(stages), SSD_1B)
    run = launch(file, tmp_path / "run", **{"train_cfg.max_iters": 1})
    first, second, third = (weights(run / f"stage_{n}_{stage['name']}" / "unet") for n, stage in enumerate(stages, 1))
    assert_equal(first, second)
    untrained, _ = make_student(UNet2DConditionModel.from_pretrained(tiny_sdxl, subfolder="unet"), ssd_1b)
    assert any(not torch.equal(first[name], tensor) for name, tensor in untrained.state_dict().items())
    expected, _ = make_student(UNet2DConditionModel.from_pretrained(run / "stage_2_swapped" / "unet"), vega)
    assert_equal(third, expected.state_dict())
    assert_equal(weights(run / "unet"), third)

    figures = json.loads((run / "results.json").read_text())
    assert [(stage["folder"], stage["steps"], stage["seed"]) for stage in figures["stages"]] == [
        ("stage_1_ssd_1b", 2, 0),
        ("stage_2_swapped", 1, 1),
        ("stage_3_vega", 1, 2),
    ]
    assert figures["stages"][2]["teacher"]["parameters"] == figures["stages"][1]["student"]["parameters"]
    assert figures["student"] == figures["stages"][2]["student"]
    report = read_run(run)
    assert report.boundaries == [(0, "stage 1: ssd_1b"), (2, "stage 2: swapped"), (3, "stage 3: vega")]
    assert (report.steps, report.curves["loss_task"][0]) == (4, [1, 2, 3, 4])
    assert len(report.record["starts"]) == 3
    assert report.record["network"]["checkpoint"] == str(run / "stage_2_swapped" / "unet")
    page = (run / "report.html").read_text()
    assert all(f'href="{stage["folder"]}/report.html"' in page for stage in figures["stages"])
    assert all((run / stage["folder"] / "report.html").exists() for stage in figures["stages"])
    assert (figures["config"], figures["seed"]) == ("two_stages", 0)
    model = last_stage(load_config(str(file), None, str(run))).model
    assert (model.teacher.denoiser, model.student.checkpoint) == (str(run / "stage_2_swapped" / "unet"), None)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[dict(name='a'), dict(name='a')]", "stages: each needs a name of its own"),
        ("[dict(train_cfg=dict(max_iters=1))]", "stages: each needs a name of its own"),
        ("[dict(name='a', model=dict(teacher=dict(denoiser='previous')))]", "stage 1 of 1: a: .*no stage is before it"),
        (
            "[dict(name='a'), dict(name='b', model=dict(student=dict(keep=dict(_delete_=True))))]",
            "stage 2 of 2: b: model.student.keep is not the student of the stage before: down_blocks",
        ),
        (
            "[dict(name='a'), dict(name='b', model=dict(teacher=dict(checkpoint='/nowhere')))]",
            "stage 2 of 2: b: model.teacher.checkpoint=/nowhere: no such folder",
        ),
    ],
)
def test_mistakes_of_later_stages_stop_the_first(stages, message, config_file, tmp_path):
    with pytest.raises(InputError, match=message):
        launch(config_file(stages), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_path_to_resume_from_is_refused(config_file, tmp_path):
    with pytest.raises(InputError, match="give --resume without a path"):
        launch(config_file("[dict(name='a')]"), tmp_path / "run", "stage_1_a/iter_2.pth")


def test_chain_of_the_published_students():
    """SDXL -> SSD-1B -> Vega: sizes to the last digit."""
    stages = stage_configs(load_config("vega_progressive_from_sdxl_pokemon_blip"))
    for stage in stages:
        stage.model.losses = dict()  # leaves out the feature pairs
    with planning():
        plans = plan_stages(stages)
    configs = [plan.family.denoiser_config for plan in plans] + [plans[-1].config]
    sizes = [build_on_meta(UNet2DConditionModel, config).num_parameters() for config in configs]
    assert sizes == [published.PARAMETERS[name] for name in ("sdxl", "ssd_1b", "vega")]


def test_summary_of_stages(config_file):
    """The teacher of the second stage is the student of the first, which is still to be trained."""
    shrink = dict(name="b", model=dict(teacher=dict(denoiser="previous"), student=dict(keep=dict(_delete_=True))))
    figures = summarize(load_config(str(config_file(repr([dict(name="a"), shrink])))))
    first, second = figures["stages"]
    assert second["teacher"]["parameters"] == first["student"]["parameters"] == second["student"]["parameters"]
    assert second["teacher"]["checkpoint"].endswith("stage_1_a/unet")
    assert figures["student"] == second["student"]
    assert [stage["title"] for stage in figures["stages"]] == ["stage 1 of 2: a", "stage 2 of 2: b"]


def test_published_swap_has_its_number_of_updates():
    stages = stage_configs(load_config("ssd_1b_distill_from_three_teachers_grit_midjourney"))
    assert len({stage.model.teacher.checkpoint for stage in stages}) == 3
    assert sum(stage.train_cfg.max_iters / stage.optim_wrapper.accumulative_counts for stage in stages) == 251_000
