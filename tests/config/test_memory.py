"""The memory of a training as its config says it, beside what real steps hold and real models take."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.config.fit import check_fits, check_released, fewest, fits, lines
from diffdistill.config.memory import SAVERS, Memory, stored
from diffdistill.config.storage import LiveBytes
from diffdistill.engine import MixedPrecision, OptimizerInBackward
from diffdistill.errors import InputError
from diffdistill.losses.base import Loss
from diffdistill.models.base import build_model

LOSSES = dict(task=dict(type="TaskLoss"), output=dict(type="OutputKD"), feature=dict(type="FeatureKD"))
LORA = dict(type="LoraConfig", r=4, target_modules=["to_q", "to_v"])
CUT = {"mid_block.*": []}
SDXL = dict(type="StableDiffusionXL", size=64)
ADVERSARIAL = SDXL | dict(losses=dict(adversarial=dict(type="AdversarialLoss", r1=1.0)))
MATCHED = SDXL | dict(losses=dict(task=dict(type="TaskLoss")), keep={}, method=dict(type="DistributionMatching"))
ROLES = MATCHED | dict(student=dict(adapter=LORA), method=MATCHED["method"] | dict(fake_score=LORA))
SD3 = dict(type="StableDiffusion3", size=64, keep={"transformer_blocks": [0, 3]})


def training(folder, type, keep=CUT, size=64, wrapper="MixedPrecision", counts=1, losses=LOSSES, teacher=None, **model):  # noqa: A002
    """A config of four pictures a step."""
    return Config(
        dict(
            model=dict(
                type="Distiller",
                teacher=dict(type=type, checkpoint=str(folder), **teacher or {}),
                student=dict(keep=keep) | model.pop("student", {}),
                losses=losses,
                **model,
            ),
            train_dataloader=dict(batch_size=4, dataset=dict(pipeline=[dict(type="ResizeCrop", size=size)])),
            optim_wrapper=dict(type=wrapper, optimizer=dict(type="AdamW", lr=1e-3), accumulative_counts=counts),
        )
    )


def held_by_a_step(config, plan) -> int:
    """The most bytes that a real step on the CPU holds beside what was there before it."""
    model = build_model(config.model, plan).train()
    kind = OptimizerInBackward if config.optim_wrapper.type == "OptimizerInBackward" else MixedPrecision
    counts = config.optim_wrapper.accumulative_counts
    wrapper = kind(torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3), counts)
    wrapper.initialize_count_status(model, 0, 100)
    size = config.train_dataloader.dataset.pipeline[0].size
    batch = dict(pixel_values=torch.rand(4, 3, size, size) * 2 - 1, caption=["a dog", "", "a red circle", "a"])
    if "StableDiffusionXL" in config.model.teacher.type:
        batch["time_ids"] = torch.tensor([[size, size, 0, 0, size, size]] * 4)
    for _ in range(counts):
        model.train_step(batch, wrapper)
    with LiveBytes() as live:
        live.ignore(model, *model.frozen.models())
        for _ in range(counts):
            model.train_step(batch, wrapper)
    return live.peak


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("thin_sdxl", SDXL),
        ("thin_sdxl", SDXL | dict(gradient_checkpointing=True)),
        ("thin_sdxl", SDXL | dict(gradient_checkpointing=["down_blocks.*"], dtype="bfloat16")),
        ("thin_sdxl", SDXL | dict(wrapper="OptimizerInBackward", gradient_checkpointing=True)),
        ("thin_sdxl", SDXL | dict(counts=2, dtype="bfloat16")),
        ("thin_sdxl", SDXL | dict(keep={}, student=dict(adapter=LORA), losses=dict(task=dict(type="TaskLoss")))),
        ("thin_sdxl", ADVERSARIAL),
        ("thin_sdxl", MATCHED),
        ("thin_sdxl", ROLES),
        ("thin_sdxl", ADVERSARIAL | dict(gradient_checkpointing=True)),
        ("tiny_sd3", SD3),
        ("tiny_sd3", SD3 | dict(dtype="bfloat16", gradient_checkpointing=True)),
        ("tiny_sd3", SD3 | dict(method=dict(type="BlockRecovery"), losses=dict(feature=dict(type="FeatureKD")))),
    ],
    ids=[
        "sdxl",
        "recomputed",
        "chosen-bf16",
        "released",
        "accumulated-bf16",
        "lora",
        "adversarial",
        "full-fake-score",
        "three-roles",
        "adversarial-recomputed",
        "sd3",
        "sd3-recomputed-bf16",
        "recovery",
    ],
)
def test_a_real_step_holds_what_is_estimated(kind, options, request):
    config = training(request.getfixturevalue(kind), **options)
    plan = check_model(config.model)
    parts = Memory(config, plan, "cpu").parts()
    estimate = parts["gradients"] + parts["activations"]
    assert estimate == pytest.approx(held_by_a_step(config, plan), rel=0.1)


class Looking(Loss):
    """A loss that looks at a value, which the meta device has not."""

    def score(self, step):
        return step.prediction.mean() * step.prediction.sum().item()


def test_without_values_a_loss_that_looks_at_them_is_unknown(thin_sdxl):
    config = training(thin_sdxl, SDXL["type"])
    plan = check_model(config.model)
    plan.losses = dict(task=Looking())
    parts = Memory(config, plan).parts()
    assert parts["activations"] is None
    assert parts["gradients"] == parts["weights"]
    assert parts["total"] == sum(value for name, value in parts.items() if value and name != "total")


def test_blocks_that_recovery_leaves_out_have_no_gradients(tiny_sd3):
    """Only the first of two kept blocks has a gap behind it; all of the student counted before."""
    options = SD3 | dict(method=dict(type="BlockRecovery"), losses=dict(feature=dict(type="FeatureKD")))
    config = training(tiny_sd3, **options)
    plan = check_model(config.model)
    block = plan.on_meta["transformer"].transformer_blocks[0]
    parts = Memory(config, plan).parts()
    assert 0 < parts["gradients"] <= 4 * sum(parameter.numel() for parameter in block.parameters()) < parts["weights"]


def test_a_gpu_computes_norms_in_fp32(thin_sdxl):
    config = training(thin_sdxl, **SDXL, dtype="bfloat16")
    plan = check_model(config.model)
    cpu, gpu = (Memory(config, plan, device).step(False)["peak"] for device in ("cpu", "cuda"))
    assert gpu > cpu


def test_frozen_models_in_8_bits_are_as_large_as_counted():
    pytest.importorskip("torchao")
    from diffdistill.families.thrift import quantize

    model = nn.Sequential(nn.Linear(64, 48), nn.Conv2d(4, 8, 3), nn.Linear(48, 16, bias=False)).requires_grad_(False)
    for dtype in (torch.float32, torch.bfloat16):
        model = model.to(dtype)
        expected = stored(model, dtype.itemsize)
        assert expected[0] == sum(parameter.nbytes for parameter in model.parameters())
    quantize(model)
    found = 0
    for parameter in model.parameters():
        tensors = [parameter.qdata, parameter.scale] if hasattr(parameter, "qdata") else [parameter]
        found += sum(tensor.nbytes for tensor in tensors)
    assert expected[1] == pytest.approx(found, rel=0.03), "older versions have scales of half the bytes"


def test_every_line_saves_and_the_fewest_are_chosen(thin_sdxl):
    config = training(thin_sdxl, **SDXL, dtype="bfloat16")
    plan = check_model(config.model)
    memory, known = Memory(config, plan), lines(config, plan)
    assert set(known) == set(SAVERS)
    whole = memory.parts()["total"]
    alone = {name: memory.parts([name])["total"] for name in known}
    assert all(size < whole for name, size in alone.items() if name != "release"), "its gradients are not there at the peak"
    least = memory.parts(list(known))["total"]
    assert least < min(alone.values())
    assert fewest(memory, known, whole) == ()
    assert fewest(memory, known, min(alone.values())) == (min(alone, key=alone.get),)
    assert fewest(memory, known, least) is not None
    assert fewest(memory, known, least - 1) is None
    figures = fits(memory, config, plan)
    assert figures["gpus"] == {size: [] for size in (12, 16, 24, 48, 80)}
    assert figures["savers"]["model.teacher.offload=True"] == whole - alone["offload"] > 0


def test_a_line_that_is_there_or_cannot_be_is_not_offered(thin_sdxl):
    config = training(
        thin_sdxl, SDXL["type"], counts=2, dtype="float16", gradient_checkpointing=True, teacher=dict(offload=True)
    )
    config.optim_wrapper.optimizer.type = "transformers.optimization.Adafactor"
    assert list(lines(config, check_model(config.model)).values()) == ["model.teacher.quantize=int8"]


def test_a_gpu_that_is_too_small_is_named_with_what_fits(thin_sdxl, caplog):
    config = training(thin_sdxl, **SDXL, dtype="bfloat16")
    plan = check_model(config.model)
    parts = Memory(config, plan).parts()
    check_fits(config, plan, parts["total"])
    assert not caplog.messages
    check_fits(config, plan, parts["total"] - 1)
    assert "what would fit: optim_wrapper.optimizer.type=AdamW8bit" in caplog.messages[-1]
    with pytest.raises(
        InputError, match=r"^this training takes about [\d.]+ GB, [^\n]*; what would fit: a smaller train_dataloader[^\n]*$"
    ):
        check_fits(config, plan, 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim_wrapper.accumulative_counts": 4}, r"^optim_wrapper\.accumulative_counts=4: [^\n]*$"),
        ({"optim_wrapper.clip_grad": dict(max_norm=1.0)}, r"^optim_wrapper\.clip_grad=\{'max_norm': 1\.0\}: [^\n]*$"),
        ({"model.dtype": "float16"}, r"^model\.dtype=float16 scales [^\n]*; set optim_wrapper\.type=MixedPrecision$"),
        ({"launcher": "pytorch"}, r"^OptimizerInBackward updates before several ranks [^\n]*$"),
        ({"model_wrapper_cfg": dict(type="FullyShard")}, r"^OptimizerInBackward updates before several ranks [^\n]*$"),
    ],
)
def test_what_needs_all_gradients_is_refused_before_loading(thin_sdxl, changes, message):
    config = training(thin_sdxl, SDXL["type"], wrapper="OptimizerInBackward")
    check_released(config, check_model(config.model))
    config.merge_from_dict(changes)
    with pytest.raises(InputError, match=message):
        check_released(config, check_model(config.model))
