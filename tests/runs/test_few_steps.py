"""Students of few steps, from training to plain diffusers: whole runs on tiny pipelines."""

import io
import json
import re
import shutil
from types import SimpleNamespace

import diffusers
import pytest
import runs
import torch
from closed_form import ClosedForm
from rich.console import Console
from staged import assert_equal, launch, weights

from diffdistill.benchmarks.tables import print_steps
from diffdistill.config.check import check_average, check_intervals, check_model
from diffdistill.config.read import config_root, find_config, load_config
from diffdistill.config.stages import last_stage, plan_stages, stage_configs
from diffdistill.errors import InputError
from diffdistill.evaluation.few_steps import metrics_by_steps
from diffdistill.families.architectures import planning
from diffdistill.families.base import Family
from diffdistill.methods.progressive import ProgressiveDistillation
from diffdistill.runs.load import Trained

BASE = dict(sdxl="small_sd_xl_shapes", sd="bk_sdm_small_shapes")
TEXT = """
_base_ = ["{base}"]
model = dict(
    teacher=dict(checkpoint="{teacher}"),
    student={student},
    method=dict(_delete_=True, **{method}),
    losses=dict(output=None, feature={feature}),
    sampling=dict(_delete_=True, num_inference_steps=1, guidance_scale=3.0),
)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
train_cfg = dict(max_iters={iters}, val_interval=100)
param_scheduler = None
optim_wrapper = dict(optimizer=dict(lr=1e-3), accumulative_counts={accumulate})
default_hooks = dict(checkpoint=dict(interval=2), samples=dict(prompts=None), baseline=None, logger=dict(interval=1){hooks})
custom_hooks = {custom}
"""
PD = dict(type="ProgressiveDistillation", steps=4, guidance_scale=3.0)
LCM = dict(type="LatentConsistency", guidance_scale=[1, 8], steps=2)
PHASED = dict(LCM, phases=2, grid=40)
AVERAGE = ", ema=dict(type='TargetEMAHook', momentum=0.3)"
EMBEDDED = dict(keep=dict(_delete_=True), guidance_embedding=16)


def write(
    file, teacher, method, student, kind="sdxl", stages=None, hooks="", custom="[]", iters=2, accumulate=1, feature=None
):
    text = TEXT.format(
        base=find_config(BASE[kind]),
        teacher=teacher,
        student=student,
        method=method,
        hooks=hooks,
        custom=custom,
        iters=iters,
        accumulate=accumulate,
        feature=feature,
    )
    file.write_text(text + (f"stages = {stages}\n" if stages else ""))
    return file


# Progressive distillation in stages

STAGES = """[
    dict(name="four"),
    dict(
        name="two",
        model=dict(
            teacher=dict(denoiser="previous"),
            student=dict(keep=dict(_delete_=True)),
            method=dict(_delete_=True, type="ProgressiveDistillation", steps=2),
        ),
        custom_hooks=HOOKS,
    ),
]"""


def halvings(file, teacher, kind, hooks="[]"):
    """A cut student of 4 steps with guidance folded in, which teaches one of 2; with features and accumulation."""
    student = dict(prediction_type="v_prediction")
    stages = STAGES.replace("HOOKS", hooks)
    return write(file, teacher, PD, student, kind, stages, iters=4, accumulate=2, feature="dict(type='FeatureKD')")


@pytest.mark.parametrize(("name", "kind"), [("thin_sdxl", "sdxl"), ("tiny_sd_v", "sd")])
def test_halvings_resume_exactly_in_the_middle_of_a_stage(name, kind, request, tmp_path):
    teacher = request.getfixturevalue(name)
    straight = launch(halvings(tmp_path / "pd.py", teacher, kind), tmp_path / "straight")
    expected, first = (weights(straight / folder) for folder in ("unet", "stage_1_four/unet"))
    assert any(not torch.equal(first[name], expected[name]) for name in expected)

    stopped = halvings(tmp_path / "pd.py", teacher, kind, "[dict(type='StopAt', step=3)]")
    shutil.copytree(straight / "stage_1_four", tmp_path / "resumed" / "stage_1_four")  # which has finished
    with pytest.raises(RuntimeError, match="stopped"):
        launch(stopped, tmp_path / "resumed", "auto")
    assert (tmp_path / "resumed" / "stage_2_two" / "iter_2.pth").exists()
    resumed = launch(halvings(tmp_path / "pd.py", teacher, kind), tmp_path / "resumed", "auto")
    assert_equal(weights(resumed / "unet"), expected)

    config = last_stage(load_config(str(tmp_path / "pd.py"), None, str(straight)))
    assert config.model.teacher.prediction_type == "v_prediction", "the second teacher is the first student"
    assert config.model.sampling.num_inference_steps == 4
    saved = diffusers.DDIMScheduler.from_pretrained(straight / "scheduler").config
    trailing = dict(timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False)
    assert {key: saved[key] for key in trailing} == trailing
    assert saved.prediction_type == "v_prediction"


@pytest.mark.processes
def test_two_ranks_halve_together(thin_sdxl, tmp_path):
    file = halvings(tmp_path / "pd.py", thin_sdxl, "sdxl", "[dict(type='Probe')]")
    file.write_text(file.read_text() + 'custom_imports = dict(imports=["diffdistill.engine", "probe"])\n')
    args = (file, "--launcher", "pytorch", "--work-dir", tmp_path / "run", *runs.options(train_cfg__max_iters=2))
    runs.two_ranks(runs.program("train", args), PYTHONPATH=f"{runs.ROOT}:{runs.ROOT}/tests/helpers")
    ranks = [json.loads((tmp_path / "run" / "stage_2_two" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0]["losses"] == ranks[1]["losses"]  # as they are logged: averaged
    assert not set(ranks[0]["seeds"]) & set(ranks[1]["seeds"])
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["batch_size"] == 4


def test_latent_consistency_resumes_exactly_with_its_average(shallow_sdxl, tmp_path):
    def config(custom="[]"):
        return write(tmp_path / "lcm.py", shallow_sdxl, LCM, EMBEDDED, hooks=AVERAGE, custom=custom, iters=4)

    straight = launch(config(), tmp_path / "straight")
    with pytest.raises(RuntimeError, match="stopped"):
        launch(config("[dict(type='StopAt', step=3)]"), tmp_path / "resumed")
    resumed = launch(config(), tmp_path / "resumed", "auto")
    ours, theirs = (runs.checkpoint(folder, 4) for folder in (straight, resumed))
    for part in ("state_dict", "ema_state_dict"):  # the average and the student
        assert_equal(ours[part], theirs[part])
    student = ours["ema_state_dict"]  # MMEngine saves the average in its place, to be deployed
    assert any(not torch.equal(student[f"module.{name}"], average) for name, average in ours["state_dict"].items())


# In plain diffusers

CUT = {}  # the base's own cut
TRAININGS = {
    "progressive_eps": ("thin_sdxl", "sdxl", PD, CUT, ""),
    "progressive_v": ("thin_sdxl", "sdxl", PD, dict(prediction_type="v_prediction"), ""),
    "progressive_sd_v": ("tiny_sd_v", "sd", PD, CUT, ""),
    "progressive_told": ("tiny_sd", "sd", dict(PD, guidance_scale=[1, 8]), EMBEDDED, ""),
    "guidance": ("shallow_sdxl", "sdxl", dict(type="GuidanceDistillation", guidance_scale=[1, 8]), EMBEDDED, ""),
    "guidance_folded": ("tiny_sd", "sd", dict(type="GuidanceDistillation", guidance_scale=3.0), CUT, ""),
    "consistency": ("shallow_sdxl", "sdxl", LCM, EMBEDDED, AVERAGE),
    "consistency_sd_v": ("tiny_sd_v", "sd", LCM, EMBEDDED, AVERAGE),
    "phased": ("shallow_sdxl", "sdxl", PHASED, EMBEDDED, AVERAGE),
}


def speak_up(folder):
    """Two steps teach the embedding of the scale next to nothing: make it large enough to be seen in pictures."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder)
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight, std=1.0)
    unet.save_pretrained(folder)


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    """Config and folder of a run of two steps, by the name of the training; each is run once."""
    done = {}

    def run(name):
        if name not in done:
            folder, kind, method, student, hooks = TRAININGS[name]
            work = tmp_path_factory.mktemp(name)
            file = write(work / f"{name}.py", request.getfixturevalue(folder), method, student, kind, hooks=hooks)
            done[name] = file, launch(file, work / "run")
            if student is EMBEDDED:
                speak_up(work / "run" / "unet")
        return done[name]

    return run


def export(file, run, out):
    ended = runs.tool("export", file, out, "--dtype", "float32", "--cfg-options", f"work_dir={run}")
    assert ended.code == 0, ended
    pipeline = diffusers.DiffusionPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("name", TRAININGS)
def test_the_exported_pipeline_gives_the_samplers_pictures(name, trained, tmp_path):
    """Loaded in plain diffusers, with no more than the number of steps and a scale; compared before they are decoded."""
    file, run = trained(name)
    pipeline = export(file, run, tmp_path / "pipeline")
    distiller = Trained(last_stage(load_config(str(file))), str(run / "unet")).load()
    distiller.family.decode = lambda pipeline, latents: latents
    captions, seeds = ["a red circle", "a dog"], [3, 4]
    ours = distiller.sample(captions, seeds)

    embeds = pipeline.unet.config.time_cond_proj_dim is not None
    steps = dict(progressive=4, consistency=2, phased=2, guidance=1)[name.split("_")[0]]

    def pictures(scale):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        options = dict(num_inference_steps=steps, guidance_scale=scale, output_type="latent")
        return pipeline(captions, generator=generators, **options).images

    theirs = pictures(4.5 if embeds else 1.0)  # the middle of the range
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    if embeds:
        assert not torch.allclose(theirs, pictures(8.0), rtol=0, atol=1e-4 * theirs.abs().max().item()), "it hears no scale"

    saved = json.loads((tmp_path / "pipeline" / "scheduler" / "scheduler_config.json").read_text())
    v = "_v" in name
    assert saved.get("prediction_type", "epsilon") == ("v_prediction" if v else "epsilon")
    if name.startswith(("progressive", "phased")):
        assert (saved["_class_name"], saved["timestep_spacing"]) == ("DDIMScheduler", "trailing")
    if name.startswith("consistency"):
        assert (saved["_class_name"], saved["original_inference_steps"]) == ("LCMScheduler", 50)


def test_lcm_lora_gives_the_samplers_pictures_in_plain_diffusers(shallow_sdxl, tmp_path):
    """An adapter on the teacher itself, which is one model in memory; loaded with `load_lora_weights`."""
    adapter = dict(type="LoraConfig", r=4, lora_alpha=4, target_modules=["to_q", "to_v", "ff.net.2"])
    student = dict(keep=dict(_delete_=True), adapter=adapter)
    file = write(tmp_path / "lora.py", shallow_sdxl, dict(LCM, target="student"), student)
    run = launch(file, tmp_path / "run")
    distiller = Trained(load_config(str(file)), str(run / "step1")).load()
    distiller.family.decode = lambda pipeline, latents: latents
    ours = distiller.sample(["a dog"], [3])

    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(shallow_sdxl)
    pipeline.scheduler = diffusers.LCMScheduler.from_pretrained(run / "scheduler")
    pipeline.set_progress_bar_config(disable=True)

    def pictures():
        generator = torch.Generator().manual_seed(3)
        options = dict(num_inference_steps=2, guidance_scale=1.0, output_type="latent")
        return pipeline(["a dog"], generator=[generator], **options).images

    without = pictures()
    pipeline.load_lora_weights(run / "step1")
    torch.testing.assert_close(ours, pictures(), rtol=1e-4, atol=1e-5 * without.abs().max().item())
    assert not torch.allclose(without, ours, rtol=0, atol=1e-4 * without.abs().max().item())


def test_export_reads_no_teacher(trained, tmp_path, monkeypatch):
    """SDXL's would be 10 GB; and the folder of a teacher that was a stage of the run may be gone."""
    file, run = trained("progressive_v")
    monkeypatch.setattr(Family, "load_denoiser", lambda family: pytest.fail("the teacher has been read"))
    export(file, run, tmp_path / "pipeline")


# What a user asks of the sampler


def sample(file, run, out, *args):
    prompt = ("--prompt", "a dog", "--checkpoint", run / "unet", "--out", out)
    return runs.tool("sample", file, *prompt, *args)


def test_a_scale_is_refused_where_guidance_is_folded_in(trained, tmp_path):
    file, run = trained("progressive_v")
    ended = sample(file, run, tmp_path / "out", "--guidance-scale", "7")
    assert ended.code != 0
    assert "--guidance-scale=7: ProgressiveDistillation has trained this student to be sampled without guidance" in str(
        ended
    )
    assert not (tmp_path / "out").exists()
    assert sample(file, run, tmp_path / "out", "--guidance-scale", "1").code == 0


def test_steps_and_scale_that_are_asked_for_win_over_the_methods(trained, tmp_path):
    file, run = trained("progressive_told")
    pictures = []
    for n, args in enumerate(([], ["--steps", "1"], ["--guidance-scale", "8"])):
        ended = sample(file, run, tmp_path / str(n), *args)
        assert ended.code == 0, ended
        pictures.append((tmp_path / str(n) / "student_0.png").read_bytes())
    assert len(set(pictures)) == 3


def test_more_steps_than_the_sampler_has_are_refused(trained, tmp_path):
    file, run = trained("consistency")
    ended = sample(file, run, tmp_path / "out", "--steps", "51")
    assert ended.code != 0
    assert "--steps=51: the sampler of LatentConsistency takes 1 to 50 steps" in str(ended)


@pytest.mark.parametrize("steps", ["3", "4"])
def test_steps_that_do_not_end_on_edges_are_refused(steps, trained, tmp_path):
    file, run = trained("phased")
    ended = sample(file, run, tmp_path / "out", "--steps", steps)
    assert ended.code != 0
    assert (
        f"--steps={steps}: each step of a student of 2 phases (model.method.phases) ends at an edge; use one of 1, 2"
        in str(ended)
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=f"--steps={steps}: each step of a student of 2 phases"):
        metrics_by_steps(load_config(str(file)), str(run / "unet"), [1, int(steps)])


# Accuracy by steps


def test_accuracy_by_steps(trained, tmp_path):
    """The student with the sampler it was trained for, the teacher with guidance by the same DDIM."""
    file, run = trained("progressive_v")
    rows = metrics_by_steps(load_config(str(file)), str(run / "unet"), [1, 4])
    assert [(row["steps"], row["guidance_scale"], row["n"]) for row in rows] == [(1, 1.0, 2), (4, 1.0, 2)]
    rows = metrics_by_steps(load_config(str(file)), None, [2], guidance=5.0)
    assert [(row["model"], row["steps"], row["guidance_scale"]) for row in rows] == [("teacher", 2, 5.0)]
    with pytest.raises(InputError, match="--guidance-scale=5: ProgressiveDistillation"):
        metrics_by_steps(load_config(str(file)), str(run / "unet"), [1], guidance=5.0)
    with pytest.raises(InputError, match="--steps=0: give 1 or more"):
        metrics_by_steps(load_config(str(file)), None, [0])
    with pytest.raises(InputError, match="the config has no validation"):
        metrics_by_steps(load_config("sdxl_lcm_laion_pop"), None, [1])


def test_accuracy_by_steps_on_the_command_line(trained, tmp_path):
    file, run = trained("progressive_v")
    args = ("--steps", "1", "--cfg-options", f"work_dir={run}")
    ended = runs.tool("benchmark", "steps", file, *args, "--json", tmp_path / "steps.json")
    assert ended.code == 0, ended
    (row,) = json.loads((tmp_path / "steps.json").read_text())
    assert (row["model"], row["steps"]) == ("student", 1)
    assert re.search(r"student\s+sampling steps\s+1\b", ended.out), ended.out
    ended = runs.tool("benchmark", "steps", file, *args, "--teacher", "--checkpoint", run / "unet")
    assert ended.code != 0
    assert "--teacher: the teacher has no --checkpoint" in str(ended)


def test_the_table_of_steps_fits_a_narrow_terminal():
    """Six numbers of steps and the longest names of metrics in 80 columns, no figure cut."""
    figures = dict(model="student", guidance_scale=1.0, accuracy=98.4375, position_agreement=100.0, position_entropy=2.0512)
    rows = [dict(figures, steps=2**power) for power in range(6)]
    console = Console(file=io.StringIO(), width=80)
    print_steps(rows, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for name, figure in (("accuracy", "98.4"), ("position agreement", "100"), ("position entropy", "2.05")):
        assert [line.split() for line in lines if line.strip().startswith(name)] == [[*name.split(), *[figure] * 6]]


# The real configs

CONFIGS = sorted(
    path
    for folder in ("progressive", "guidance", "lcm")
    for path in (config_root() / folder).glob("*.py")
    if "lora" not in path.stem
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_stages_of_a_config_fit_each_other(path):
    """Every stage can be planned; a teacher steps on the grid that it has learned; 4 steps and fewer predict v."""
    config = load_config(path.stem)
    stages = stage_configs(config) if config.get("stages") else [config]
    with planning():
        plans = plan_stages(stages) if config.get("stages") else [check_model(config.model)]
    learned = None
    for stage, plan in zip(stages, plans, strict=True):
        check_average(stage, plan)
        check_intervals(stage)
        if isinstance(plan.method, ProgressiveDistillation):
            assert learned in (None, plan.method.steps * plan.method.substeps)
            assert plan.noise_schedule.prediction_type == "v_prediction"
            learned = plan.method.steps
            assert bool(plan.config["time_cond_proj_dim"]) == (plan.student_sampling["guidance_scale"] > 1)
    if match := re.search(r"(\d)_steps?", path.stem):
        assert learned == int(match[1])


@pytest.mark.parametrize(("name", "updates"), [("4_steps", 4 * [50_000]), ("1_step", [*4 * [50_000], 100_000, 100_000])])
def test_updates_of_progressive_distillation_are_the_papers(name, updates):
    stages = stage_configs(load_config(f"sd_15_progressive_{name}_laion_aesthetics"))
    assert [stage.train_cfg.max_iters / stage.optim_wrapper.accumulative_counts for stage in stages] == updates
    for stage in stages:  # annealed to zero at the very end
        assert (stage.param_scheduler[-1].end, stage.param_scheduler[-1].end_factor) == (stage.train_cfg.max_iters, 0.0)
        assert "ema" not in stage.default_hooks


def test_a_teacher_that_knows_a_range_of_scales_is_sampled_with_guidance(thin_sdxl):
    """It is the student of a stage of latent consistency, which was told its scales."""
    consistency = dict(type="LatentConsistency", guidance_scale=[1, 19])
    first = dict(name="a", model=dict(student=dict(guidance_embedding=16, keep={}), method=consistency))
    second = dict(name="b", model=dict(teacher=dict(denoiser="previous"), method=dict(PD, guidance_scale=[1, 19])))
    config = load_config("small_sd_xl_shapes", {"model.teacher.checkpoint": str(thin_sdxl)})
    config.model = dict(config.model, losses=dict(task=dict(type="TaskLoss")), student=dict(), feature_pairs=None)
    config.stages = [first, second]
    stages = stage_configs(config)
    method = plan_stages(stages)[0].method
    assert stages[1].model.sampling["guidance_scale"] == 10.0
    assert stages[1].model.sampling["scheduler"]["type"] == "LCMScheduler"
    untold, told = (
        method.sampling(SimpleNamespace(embeds_guidance=told, noise_schedule=ClosedForm().noise_schedule))
        for told in (False, True)
    )
    assert (untold["guidance_scale"], told["guidance_scale"]) == (1.0, 10.0)  # one method, planned twice


# Bad input


def test_a_student_may_be_given_an_embedding_by_a_stage_but_no_other_layer(tiny_sd):
    """As in the configs of guidance distillation, after the stage that brings it to v."""
    method = dict(method=dict(PD, guidance_scale=[1, 8]), losses=dict(output=None))
    told = dict(name="b", model=dict(student=dict(guidance_embedding=16), **method))
    config = load_config("bk_sdm_small_shapes", {"model.teacher.checkpoint": str(tiny_sd)})
    config.stages = [dict(name="a"), told]
    assert plan_stages(stage_configs(config))[1].config["time_cond_proj_dim"] == 16
    told["model"]["student"]["keep"] = {"mid_block.resnets": [0], "mid_block.attentions": []}
    config.stages = [dict(name="a"), told]
    with pytest.raises(
        InputError, match=r"stage 2 of 2: b: model.student.keep is not the student of the stage before: mid_block"
    ):
        plan_stages(stage_configs(config))


def test_a_scheduler_without_a_ddim_form(tiny_sd, tmp_path):
    folder = shutil.copytree(tiny_sd, tmp_path / "flow")
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(InputError, match="is of a FlowMatchEulerDiscreteScheduler, which has no DDPM or DDIM form"):
        launch(write(tmp_path / "flow.py", folder, PD, CUT, "sd"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
