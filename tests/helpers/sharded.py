"""On every rank: each kind of training in pieces beside the same one whole, for an update of two iterations.

    sharded.py PIPELINES OUT

PIPELINES holds `sd3` and `sdxl`; the first rank writes OUT, a JSON of what differed, by the kind of training.
"""

import copy
import json
import sys
from pathlib import Path

import torch
from mmengine.dist import all_reduce, all_reduce_params
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch.distributed.tensor import DTensor

from diffdistill.engine.sharding import FullyShard
from diffdistill.registry import MODELS

SD3 = dict(type="StableDiffusion3", checkpoint="sd3", max_sequence_length=4)
SDXL = dict(type="StableDiffusionXL", checkpoint="sdxl")
ALL = {name: dict(type=kind) for name, kind in dict(task="TaskLoss", output="OutputKD", feature="FeatureKD").items()}
FEATURES, TASK = dict(feature=dict(type="FeatureKD")), dict(task=dict(type="TaskLoss"))
BOTH = dict(level=["transformer_blocks.*", "transformer_blocks.*:text"])
LORA = dict(type="LoraConfig", r=2, init_lora_weights=False)
CUT = dict(keep={"transformer_blocks": [0, 2, 5]})
KINDS = dict(
    transformer=dict(teacher=SD3, student=CUT, losses=ALL, feature_pairs=BOTH),
    frozen_blocks=dict(teacher=SD3, student=CUT | dict(frozen=["transformer_blocks.0"]), losses=TASK),
    bfloat16=dict(teacher=SD3, student=CUT, losses=TASK, dtype="bfloat16"),
    unet=dict(teacher=SDXL, student=dict(keep={"mid_block.attentions": [], "mid_block.resnets": [0]}), losses=ALL),
    checkpointing=dict(teacher=SDXL, losses=TASK, gradient_checkpointing=True),
    recovery=dict(teacher=SD3, student=CUT, losses=FEATURES, feature_pairs=BOTH, method=dict(type="BlockRecovery")),
    average=dict(teacher=SD3, student=CUT, losses=TASK, method=dict(type="LatentConsistency", guidance_scale=4.0)),
    matching=dict(teacher=SD3, student=CUT, losses=TASK, method=dict(type="DistributionMatching", steps=2)),
    adversarial=dict(teacher=SDXL, losses=TASK | dict(adversarial=dict(type="AdversarialLoss"))),
    adversarial_tokens=dict(
        teacher=SD3, student=CUT, losses=dict(adversarial=dict(type="AdversarialLoss", r1=1.0, kind="softplus"))
    ),
    adversarial_matching=dict(
        teacher=SDXL,
        losses=dict(adversarial=dict(type="AdversarialLoss", network="fake_score", r1=1.0)),
        method=dict(type="DistributionMatching", steps=2),
    ),
    adapter_of_teacher=dict(teacher=SD3, student=dict(adapter=LORA | dict(target_modules=["to_q"])), losses=ALL),
    adapter=dict(teacher=SD3, student=CUT | dict(adapter=LORA | dict(target_modules=["to_q"], use_dora=True)), losses=ALL),
    adapters_in_three_roles=dict(
        teacher=SDXL,
        student=dict(adapter=LORA | dict(target_modules=["to_q"])),
        losses=TASK,
        method=dict(type="DistributionMatching", fake_score=LORA | dict(target_modules=["to_q", "to_k"])),
    ),
    text_encoders=dict(base=SDXL, finetune_text_encoder=True, losses=TASK),
    text_adapters=dict(
        base=SDXL,
        adapter=LORA | dict(target_modules=["to_k"]),
        text_encoder_adapter=LORA | dict(target_modules=["q_proj"]),
        losses=TASK,
    ),
)
ACCUMULATED, CLIP = 2, dict(max_norm=0.5)
RANK = None


def build(kind: str, seed: int):
    torch.manual_seed(seed)
    config = copy.deepcopy(KINDS[kind])
    config |= dict(type="FineTuner" if "base" in config else "Distiller", sampling=dict(num_inference_steps=2))
    return MODELS.build(config)


def batch(number: int) -> dict:
    torch.manual_seed(1000 * RANK + number)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2)
    return dict(pixel_values=pixels, caption=["a red circle", "a dog"], time_ids=sizes)


def update_whole(model) -> list[float]:
    """One update of a model that every rank has whole, by hand; returns the losses."""
    parameters, logged = [each for each in model.parameters() if each.requires_grad], []
    for number in range(ACCUMULATED):
        loss, terms = model.parse_losses(model(**batch(number), mode="loss"))
        (loss / ACCUMULATED).backward()
        logged.append(float(terms["loss"]))
    trained = [each for each in parameters if each.grad is not None]
    all_reduce_params([each.grad for each in trained], op="mean")
    logged.append(float(torch.nn.utils.clip_grad_norm_(trained, **CLIP)))
    torch.optim.SGD(trained, lr=1.0).step()
    return logged


def update_sharded(wrapper: FullyShard) -> list[float]:
    """The same by the wrapper."""
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=1.0)
    optim_wrapper = OptimWrapper(optimizer, accumulative_counts=ACCUMULATED, clip_grad=CLIP)
    logged = [float(wrapper.train_step(batch(number), optim_wrapper)["loss"]) for number in range(ACCUMULATED)]
    return [*logged, optim_wrapper.message_hub.get_scalar("train/grad_norm").current()]


def full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def held(parameters) -> int:
    """Bytes that this rank holds."""
    pieces = (each.to_local() if isinstance(each, DTensor) else each for each in parameters)
    return sum(piece.untyped_storage().nbytes() for piece in pieces)


def compare(kind: str, **options) -> dict:
    whole = build(kind, seed=0)
    frozen = [parameter for model in whole.frozen.models() for parameter in model.parameters()]
    bytes_whole = held(whole.parameters()), held(frozen)
    wrapper = FullyShard(build(kind, seed=RANK), **options)  # only the first rank starts from the values of `whole`
    model = wrapper.module
    pieces = [parameter for part in model.frozen.models() for parameter in part.parameters()]
    shares = [held(mine) / all_ for mine, all_ in zip((model.parameters(), pieces), bytes_whole, strict=True)]
    if whole.method.needs_average:
        averages = copy.deepcopy(whole), wrapper.copy_trained()
        whole.get_average, model.get_average = (lambda average=average: average.student for average in averages)
    before = {name: value.clone() for name, value in whole.named_parameters()}
    logged = update_whole(whole.train()), update_sharded(wrapper.train())
    ours, theirs = ({name: full(value) for name, value in each.named_parameters()} for each in (model, whole))
    assert ours.keys() == theirs.keys()
    pictures = [torch.from_numpy(each.sample(["a dog"], [0])).float() for each in (whole, model)]
    assert all(isinstance(value, DTensor) for value in model.parameters()) == bool(wrapper.structures)
    gathered = wrapper.gather()
    exact = True
    for name in wrapper.structures:
        values = {key: full(value) for key, value in model.trained[name].state_dict().items()}
        if RANK == 0:
            exact &= all(torch.equal(gathered[name].state_dict()[key], value) for key, value in values.items())
    ends = torch.stack([value.double().sum() for value in ours.values()])
    spread = ends.clone()
    all_reduce(spread, op="mean")
    return dict(
        weights=max((ours[name] - theirs[name]).abs().max().item() for name in ours),
        moved=max((value - before[name]).abs().max().item() for name, value in theirs.items()),
        losses=max(float(abs(one - other) / abs(one)) for one, other in zip(*logged, strict=True)),
        pictures=(pictures[0] - pictures[1]).abs().max().item(),
        shares=shares,
        gathered=exact,
        ranks=(spread - ends).abs().max().item(),
    )


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:3])
    torch.distributed.init_process_group("gloo")
    RANK = torch.distributed.get_rank()
    init_default_scope("diffdistill")
    for family in (SD3, SDXL):
        family["checkpoint"] = str(folder / family["checkpoint"])
    found = {kind: compare(kind) for kind in KINDS}
    found["accumulated whole"] = compare("transformer", accumulate_whole=True)
    if RANK == 0:
        out.write_text(json.dumps(found))
    torch.distributed.destroy_process_group()
