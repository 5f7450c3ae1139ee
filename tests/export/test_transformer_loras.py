"""LoRAs of a transformer: those of a teacher on its student, and one that a run has trained."""

import json

import runs
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from diffdistill.students.weights import make_student

NULL_PARTS = dict(text_encoder_3=None, tokenizer_3=None)


def random_lora(pipeline, folder, **options) -> None:
    """Write a LoRA with random weights for the transformer and the first text encoder of `pipeline`."""
    torch.manual_seed(0)
    states = {}
    for name, targets in (("transformer", ["to_q", "add_k_proj", "proj_out"]), ("text_encoder", ["q_proj"])):
        model = getattr(pipeline, name)
        model.add_adapter(LoraConfig(r=2, lora_alpha=3, init_lora_weights=False, target_modules=targets, **options))
        for key, parameter in model.named_parameters():
            if ".lora_" in key:
                nn.init.normal_(parameter, std=0.1)
        states[f"{name}_lora_layers"] = get_peft_model_state_dict(model)
        states[f"{name}_lora_adapter_metadata"] = model.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder, **states)
    pipeline.unload_lora_weights()


def changes(pipeline, lora, *names) -> list[dict]:
    """What diffusers makes of `lora`: the change of every tensor of the models of those names."""
    models = [getattr(pipeline, name) for name in names]
    before = [{key: tensor.clone() for key, tensor in model.state_dict().items()} for model in models]
    pipeline.load_lora_weights(lora)
    pipeline.fuse_lora(components=list(names))
    pipeline.unload_lora_weights()
    after = [model.state_dict() for model in models]
    return [{key: new[key] - old[key] for key in old} for old, new in zip(before, after, strict=True)]


def load(folder, **parts) -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline.from_pretrained(folder, **NULL_PARTS, **parts)


def test_a_lora_changes_each_block_as_its_teachers(tiny_sd3, sd3_config, tmp_path):
    random_lora(load(tiny_sd3), tmp_path / "lora")
    ended = runs.tool("transfer_lora", tmp_path / "lora", sd3_config, tmp_path / "out", "--json", tmp_path / "figures.json")
    assert ended.code == 0, ended
    stages = json.loads((tmp_path / "figures.json").read_text())["stages"]
    counts = {stage: (row["layers"], row["layers_kept"]) for stage, row in stages.items()}
    assert counts == {"transformer_blocks": (8, 4), "outside the stages": (1, 1), "text_encoder": (2, 2)}
    teacher = load(tiny_sd3)
    student, layers = make_student(teacher.transformer, {"transformer_blocks": [0, 3]})
    names = ("transformer", "text_encoder")
    theirs, encoder = changes(teacher, tmp_path / "lora", *names)
    ours, same_encoder = changes(load(tiny_sd3, transformer=student.eval()), tmp_path / "out", *names)
    changed = 0
    for name, change in ours.items():
        expected = theirs[layers.to_teacher(name)]
        assert (change - expected).norm() <= 1e-5 * expected.norm(), name
        changed += bool(change.any())
    assert changed == 5
    torch.testing.assert_close(same_encoder, encoder)
    assert any(change.any() for change in encoder.values())


def test_a_lora_of_another_family_is_refused_by_both_names(tiny_sd, tiny_sd3, sd3_config, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv_in"]))
    pipeline.save_lora_weights(tmp_path / "unet", unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
    ended = runs.tool("transfer_lora", tmp_path / "unet", sd3_config, tmp_path / "out")
    assert ended.code == 2
    assert f"it adapts unet, which the teacher {tiny_sd3} does not have; it was made for a " in ended.err
    assert "StableDiffusionPipeline" in ended.err
    assert "and this is a StableDiffusion3Pipeline" in ended.err
    assert ended.err.count("\n") == 1


def test_an_adapter_of_a_transformer_loads_in_its_pipeline(tiny_sd3, sd3_config, tmp_path):
    """Trained for a step, exported beside its base, and left to diffusers."""
    adapter = "{'type': 'LoraConfig', 'r': 2, 'target_modules': ['to_q', 'to_v']}"
    config = tmp_path / "lora.py"
    config.write_text(f"_base_ = [{str(sd3_config)!r}]\nmodel = dict(student=dict(_delete_=True, adapter={adapter}))\n")
    options = dict(train_cfg__max_iters=1, default_hooks__samples__prompts=None)
    run = runs.trained(config, tmp_path / "run", options).work_dir
    tensors = load_file(run / "step0" / "pytorch_lora_weights.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"transformer"}
    assert runs.tool("export", config, run / "step0", tmp_path / "out", "--dtype", "float32").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'pipeline.load_lora_weights("out")' in card
    pipeline = load(tmp_path / "out")
    (change,) = changes(pipeline, tmp_path / "out", "transformer")
    assert sum(bool(each.any()) for each in change.values()) == 8
