"""What a fine-tuning leaves on disk: runs by the tools, and files that diffusers and peft load."""

import json
import shutil

import diffusers
import numpy as np
import peft
import pytest
import runs
import torch
from peft_kinds import KINDS, shake
from safetensors.torch import load_file, save_file

from diffdistill.config.read import load_config
from diffdistill.config.stages import stage_configs
from diffdistill.config.summary import summarize
from diffdistill.errors import InputError
from diffdistill.families.saving import published_name
from diffdistill.families.single_file import SingleFile
from diffdistill.models.finetuner import FineTuner
from diffdistill.models.saved import load_trained, save_adapters

LORA = '''
"""LoRA on a folder's UNet and text encoder, four steps."""

_base_ = [
    "{root}/configs/_base_/datasets/shapes.py",
    "{root}/configs/_base_/schedules/shapes_100.py",
    "{root}/configs/_base_/shapes_runtime.py",
]
model = dict(
    type="FineTuner",
    base=dict(type="StableDiffusion", checkpoint="{base}"),
    adapter=dict(type="LoraConfig", r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["attn2.to_q", "attn2.to_v"]),
    text_encoder_adapter=dict(type="LoraConfig", r=2, target_modules=["q_proj", "v_proj"]),
    losses=dict(task=dict(type="TaskLoss")),
    sampling=dict(num_inference_steps=1))
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
train_cfg = dict(max_iters=4, val_interval=100)
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.5),
    checkpoint=dict(interval=2, max_keep_ckpts=3),
    samples=dict(prompts=["a red circle"]),
    export=dict(interval=2))
'''
WHOLE = {"model.adapter": None, "model.text_encoder_adapter": None, "model.finetune_text_encoder": True}


@pytest.fixture(scope="module")
def config(tiny_sd, tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny_lora.py"
    path.write_text(LORA.format(root=runs.ROOT, base=tiny_sd))
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return runs.trained(config, tmp_path_factory.mktemp("runs") / "run", {"default_hooks__logger__interval": 1})


def weights(folder) -> dict:
    return load_file(folder / "pytorch_lora_weights.safetensors")


def equal(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def pictures(pipeline, **options):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipeline("a red circle", num_inference_steps=2, generator=generator, output_type="np", **options).images


def plain(folder):
    return diffusers.DiffusionPipeline.from_pretrained(folder)


# Runs


def test_an_adapter_run_leaves_its_steps_by_the_number_of_their_iteration(run):
    names = {path.name for path in run.work_dir.iterdir()}
    assert {"step1", "step3", "iter_2.pth", "iter_4.pth", "results.json", "samples"} <= names
    assert "unet" not in names
    assert not [name for name in names if "partial" in name]
    assert f'pipe.load_lora_weights("{run.work_dir / "step3"}")' in run.out
    results = json.loads((run.work_dir / "results.json").read_text())
    assert "teacher" not in results
    trained = sum(tensor.numel() for tensor in weights(run.work_dir / "step3").values())
    assert results["trained"]["parameters"] == trained
    assert results["trained"]["components"] == ["unet", "text_encoder"]
    assert results["trained"]["share"] == pytest.approx(trained / (results["base"]["parameters"] + trained), rel=0.2)
    assert [(record["model"], record["step"]) for record in results["validation"]] == [("fine-tuned", 0), ("fine-tuned", 4)]


def test_exported_and_saved_weights_are_the_adapters_averages_alone(run):
    saved = runs.checkpoint(run.work_dir, 4)
    exported = weights(run.work_dir / "step3")
    average = {name.removeprefix("trained.").replace(".default", ""): tensor for name, tensor in saved["state_dict"].items()}
    ours, theirs = ({key.replace(".text_model.", "."): tensor for key, tensor in of.items()} for of in (exported, average))
    assert equal(ours, theirs)
    assert not equal(exported, weights(run.work_dir / "step1"))
    raw = {name.removeprefix("module."): tensor for name, tensor in saved["ema_state_dict"].items() if name != "steps"}
    assert raw.keys() == saved["state_dict"].keys()
    # The weights, their average and two moments, and room for names: the UNet alone is larger.
    size = sum(tensor.nbytes for tensor in exported.values())
    assert (run.work_dir / "iter_4.pth").stat().st_size < 4 * size + 400_000


@pytest.mark.processes
def test_four_steps_are_two_and_two_more(run, config, tmp_path):
    """By a real process, which has nothing of the first run in memory."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(run.work_dir / "iter_2.pth", folder)
    (folder / "last_checkpoint").write_text("iter_2.pth")
    ended = runs.finish(runs.start("train", config, "--work-dir", folder, "--resume"))
    assert ended.code == 0, ended
    assert equal(weights(folder / "step3"), weights(run.work_dir / "step3"))
    straight, resumed = (runs.checkpoint(path, 4) for path in (run.work_dir, folder))
    for part in ("state_dict", "ema_state_dict"):
        assert equal(straight[part], resumed[part])


def test_the_adapter_of_a_run_is_measured_from_either_file(run, config, tmp_path):
    figures = {}
    for name in ("iter_4.pth", "step3", "step1"):
        file = tmp_path / f"{name}.json"
        validation = ["val_dataloader=None", "val_evaluator=None", "val_cfg=None"]
        options = ["--batches", "2", "--json", file, "--cfg-options", *validation]
        ended = runs.tool("test", config, "--checkpoint", run.work_dir / name, "--work-dir", tmp_path, *options)
        assert ended.code == 0, ended
        figures[name] = json.loads(file.read_text())["results"][0]["loss_task"]
    assert figures["iter_4.pth"] == figures["step3"] != figures["step1"]
    ended = runs.tool("test", config, "--checkpoint", config.parent, "--work-dir", tmp_path)
    assert ended.code == 2
    assert f"--checkpoint={config.parent}: this config trains unet" in ended.err


def test_a_run_that_trains_all_leaves_whole_models(config, tiny_sd, tmp_path):
    options = [*runs.options(train_cfg__max_iters=1), *(f"{key}={value}" for key, value in WHOLE.items())]
    ended = runs.tool("train", config, "--work-dir", tmp_path / "run", *options)
    assert ended.code == 0, ended
    assert not list(tmp_path.glob("run/step*"))
    for name in ("unet", "text_encoder"):
        ours = load_file(next((tmp_path / "run" / name).glob("*.safetensors")))
        theirs = load_file(next((tiny_sd / name).glob("*.safetensors")))
        theirs = theirs if name == "unet" else {published_name(key): tensor for key, tensor in theirs.items()}
        assert ours.keys() == theirs.keys()
        assert not equal(ours, theirs)
    export = runs.tool("export", config, tmp_path / "out", "--checkpoint", tmp_path / "run" / "unet", *options)
    assert export.code == 0, export
    expected = load_file(tmp_path / "run" / "text_encoder" / "model.safetensors")
    ours = load_file(tmp_path / "out" / "text_encoder" / "model.safetensors")
    assert all(torch.equal(ours[name], expected[name].half()) for name in expected)


@pytest.mark.processes
def test_two_ranks_train_adapters_of_which_some_have_no_gradient(config, shallow_sdxl, tmp_path):
    """SDXL does not run the last layer of its first text encoder."""
    options = runs.options(
        model__base__type="StableDiffusionXL",
        model__base__checkpoint=shallow_sdxl,
        train_cfg__max_iters=2,
        default_hooks__samples__prompts=None,
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
    )
    options = [option for option in options if not option.startswith("train_cfg.val")]
    runs.two_ranks(runs.program("train", (config, "--launcher", "pytorch", "--work-dir", tmp_path, *options)))
    names = weights(tmp_path / "step1")
    assert {name.split(".")[0] for name in names} == {"unet", "text_encoder", "text_encoder_2"}
    moved = [name for name in names if ".lora_B." in name and names[name].abs().sum() > 0]
    assert moved
    assert any(name.startswith("text_encoder.text_model.encoder.layers.0.") for name in moved)
    assert not any(name.startswith("text_encoder.text_model.encoder.layers.1.") for name in moved)


def test_the_summary_counts_what_is_trained(run, config, tiny_sd):
    figures = summarize(load_config(config))
    assert figures["trainable_parameters"] == sum(tensor.numel() for tensor in weights(run.work_dir / "step3").values())
    assert (figures["origin"], figures["teacher"]["checkpoint"]) == ("base", str(tiny_sd))
    memory = figures["memory"]
    assert memory["weights"] == memory["ema"] == 4 * figures["trainable_parameters"]
    assert memory["teacher"] == 0
    assert memory["frozen"] == 4 * (figures["student"]["parameters"] + sum(figures["frozen"].values()))


def test_what_needs_a_student_refuses_a_fine_tuning(config, tmp_path):
    ended = runs.tool("make_student", config, tmp_path / "out")
    assert ended.code == 2
    assert "model.type='FineTuner' has no student of its own" in ended.err
    staged = load_config(config)
    staged.stages = [dict(name="one")]
    with pytest.raises(InputError, match=r"stage 1 of 1: one: .*model.type must be a Distiller"):
        stage_configs(staged)


# Files


@pytest.mark.parametrize("name", ["tiny_sd", "thin_sdxl"])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_diffusers_loads_an_adapter_and_unloads_it(name, kind, request, tmp_path):
    folder = request.getfixturevalue(name)
    family = "StableDiffusion" if name == "tiny_sd" else "StableDiffusionXL"
    model = FineTuner(
        base=dict(type=family, checkpoint=str(folder)),
        losses=dict(task=dict(type="TaskLoss")),
        adapter=KINDS[kind],  # its alpha is not its rank
        text_encoder_adapter=dict(KINDS[kind], target_modules=["q_proj", "out_proj"]),
        sampling=dict(num_inference_steps=2),
    )
    for component in model.adapted:
        shake(model.component(component))
    save_adapters(model, tmp_path / "step0")
    assert [path.name for path in (tmp_path / "step0").iterdir()] == ["pytorch_lora_weights.safetensors"]
    pipe = plain(folder)
    before = pictures(pipe)
    pipe.load_lora_weights(tmp_path / "step0")
    with_adapter = pictures(pipe)
    assert np.abs(with_adapter - before).max() > 0.01
    assert np.array_equal((with_adapter * 255).round().astype(np.uint8), model.sample(["a red circle"], [0]))
    pipe.unload_lora_weights()
    assert np.array_equal(pictures(pipe), before)


def test_adapters_of_text_encoders_bear_published_names_and_load_with_or_without_the_prefix(thin_sdxl, tmp_path):
    """Older transformers would not find the others, and leave the text encoder without its adapter."""
    options = dict(
        base=dict(type="StableDiffusionXL", checkpoint=str(thin_sdxl)),
        losses=dict(task=dict(type="TaskLoss")),
        adapter=KINDS["lora"],
        text_encoder_adapter=dict(KINDS["lora"], target_modules=["q_proj", "out_proj"]),
    )
    model = FineTuner(**options)
    for component in model.adapted:
        shake(model.component(component))
    folder = save_adapters(model, tmp_path / "step0")
    names = [name for name in weights(folder) if name.startswith("text_encoder")]
    assert {name.split(".")[1] for name in names} == {"text_model"}
    load_trained(twin := FineTuner(**options), folder)
    assert equal(dict(twin.state_dict()), dict(model.state_dict()))
    before = {name.replace("text_encoder.text_model.", "text_encoder."): value for name, value in weights(folder).items()}
    save_file(before, folder / "pytorch_lora_weights.safetensors")
    load_trained(twin := FineTuner(**options), folder)
    assert equal(dict(twin.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_that_was_trained_with_dropout_drops_nothing_in_diffusers(kind, tiny_sd, tmp_path):
    """diffusers and transformers rebuild its layers in train mode, from the file; the model goes on with its dropout."""
    adapter = dict(KINDS[kind], lora_dropout=0.5)
    model = FineTuner(
        base=dict(type="StableDiffusion", checkpoint=str(tiny_sd)),
        losses=dict(task=dict(type="TaskLoss")),
        adapter=adapter,
        text_encoder_adapter=dict(adapter, target_modules=["q_proj", "out_proj"]),
        sampling=dict(num_inference_steps=2),
    ).train()
    for component in model.adapted:
        shake(model.component(component))
    save_adapters(model, tmp_path / "step0")
    pipe = plain(tiny_sd)
    pipe.load_lora_weights(tmp_path / "step0")
    loaded = (pipe.unet, pipe.text_encoder)
    assert not [module for part in loaded for module in part.modules() if getattr(module, "p", 0) and module.training]
    ours = model.sample(["a red circle"], [0])
    assert np.array_equal((pictures(pipe) * 255).round().astype(np.uint8), ours)
    assert {config.lora_dropout for name in model.adapted for config in model.component(name).peft_config.values()} == {0.5}


DROPOUT = {"loha": ["rank_dropout", "module_dropout"], "lokr": ["rank_dropout", "module_dropout"], "oft": ["module_dropout"]}


@pytest.mark.parametrize("kind", ["loha", "lokr", "oft"])
def test_peft_loads_the_others(kind, tiny_sd, tmp_path):
    """In eval mode, so that dropout may stand in their files."""
    base, losses = dict(type="StableDiffusion", checkpoint=str(tiny_sd)), dict(task=dict(type="TaskLoss"))
    adapter = KINDS[kind] | dict.fromkeys(DROPOUT[kind], 0.5)
    text = dict(adapter, target_modules=["q_proj", "out_proj"])
    options = dict(base=base, losses=losses, adapter=adapter, text_encoder_adapter=text)
    model, twin = FineTuner(**options).eval(), FineTuner(**options)
    for component in model.adapted:
        shake(model.component(component))
    folder = save_adapters(model, tmp_path / "step0")
    pipe = plain(tiny_sd)
    latents, times, prompts = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 5, 32)
    with torch.no_grad():
        expected = model.student(latents, times, prompts, return_dict=False)[0]
        before = pipe.unet(latents, times, prompts, return_dict=False)[0]
        wrapped = peft.PeftModel.from_pretrained(pipe.unet, folder / "unet")
        torch.testing.assert_close(wrapped(latents, times, prompts, return_dict=False)[0], expected, rtol=0, atol=0)
    assert (expected - before).abs().max() > 1e-4
    peft.PeftModel.from_pretrained(pipe.text_encoder, folder / "text_encoder")
    load_trained(twin, folder)
    assert equal(dict(twin.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_pipeline_or_file_is_its_base_with_the_adapter(kind, config, tiny_sd, tmp_path):
    target, text = KINDS[kind], dict(KINDS[kind], target_modules=["q_proj", "out_proj"])
    base, losses = dict(type="StableDiffusion", checkpoint=str(tiny_sd)), dict(task=dict(type="TaskLoss"))
    model = FineTuner(base=base, losses=losses, adapter=target, text_encoder_adapter=text)
    for component in model.adapted:
        shake(model.component(component))
    save_adapters(model, tmp_path / "step0")
    changes = dict(model__adapter___delete_=True, model__text_encoder_adapter___delete_=True)
    changes |= {f"model__adapter__{key}": value for key, value in target.items()}
    changes |= {f"model__text_encoder_adapter__{key}": value for key, value in text.items()}
    changes = {key: str(value).replace("'", "").replace(" ", "") for key, value in changes.items()}
    options = ["--checkpoint", tmp_path / "step0", "--dtype", "float32", *runs.options(**changes)]
    ended = runs.tool("export", config, tmp_path / "fused", "--fuse-lora", *options)
    assert ended.code == 0, ended
    whole, fused = model.family.assemble(model.frozen.pipeline, model.student.eval()), plain(tmp_path / "fused")
    assert fused.unet.state_dict().keys() == plain(tiny_sd).unet.state_dict().keys()
    scheduler = diffusers.DDIMScheduler.from_config(whole.scheduler.config)
    whole.scheduler = fused.scheduler = scheduler
    ours, theirs = (pictures(pipe) for pipe in (fused, whole))
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.abs(ours - pictures(plain(tiny_sd))).max() > 1e-3

    file = tmp_path / "fused.safetensors"
    ended = runs.tool("export", config, file, "--single-file", "--fuse-lora", *options)
    assert ended.code == 0, ended
    single = SingleFile(str(file), "checkpoint")
    for name in ("unet", "text_encoder"):
        model = getattr(fused, name)
        loaded = single.load(name, type(model), json.loads((tmp_path / "fused" / name / "config.json").read_text()))
        assert equal(dict(loaded.state_dict()), dict(model.state_dict()))


def test_an_unfused_adapter_stands_beside_its_base(run, config, tiny_sd, tmp_path):
    options = ["--checkpoint", run.work_dir / "step3", "--dtype", "float32"]
    ended = runs.tool("export", config, tmp_path / "out", *options)
    assert ended.code == 0, ended
    for name in ("unet", "text_encoder"):
        file = next((tiny_sd / name).glob("*.safetensors")).relative_to(tiny_sd)
        theirs = load_file(tiny_sd / file)
        theirs = theirs if name == "unet" else {published_name(key): tensor for key, tensor in theirs.items()}
        assert equal(load_file(tmp_path / "out" / file), theirs)
    assert equal(weights(tmp_path / "out"), weights(run.work_dir / "step3"))
    pipe = plain(tmp_path / "out")
    before = pictures(pipe)
    pipe.load_lora_weights(tmp_path / "out")
    assert not np.array_equal(pictures(pipe), before)


def test_there_must_be_an_adapter_to_fuse(config, tmp_path):
    options = [f"{key}={value}" for key, value in WHOLE.items()]
    ended = runs.tool("export", config, tmp_path / "out", "--fuse-lora", "--cfg-options", *options)
    assert ended.code == 2
    assert "--fuse-lora: tiny_lora.py trains no adapter" in ended.err
