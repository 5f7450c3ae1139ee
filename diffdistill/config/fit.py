"""Which lines of a config that save memory make its training fit a GPU."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import torch
from mmengine.config import Config

from diffdistill.config.memory import Memory, is_released, name_of
from diffdistill.engine.release import check_alone
from diffdistill.errors import InputError, warn_once
from diffdistill.models.plan import Plan

GPUS = (12, 16, 24, 48, 80)  # GB. They have 7 % more than so many 10^9 bytes, for the context and what an allocator keeps
ADAM = ("adam", "adamw")


def lines(config: Config, plan: Plan) -> dict[str, str]:
    """Name in `memory.SAVERS` -> line, of those that could be added to a config; what costs least comes first."""
    key, wrapper = plan.family.key, config.optim_wrapper
    found = dict(
        optimizer="optim_wrapper.optimizer.type=AdamW8bit",
        quantize=f"{key}.quantize=int8",
        offload=f"{key}.offload=True",
        recompute="model.gradient_checkpointing=True",
        release="optim_wrapper.type=OptimizerInBackward" + " optim_wrapper.clip_grad=None" * bool(wrapper.get("clip_grad")),
    )
    needless = dict(
        optimizer=name_of(wrapper.optimizer) not in ADAM,
        quantize=plan.family.quantize is not None,
        offload=plan.family.offload,
        recompute=plan.gradient_checkpointing is True,
        release=is_released(wrapper) or plan.dtype == torch.float16 or wrapper.get("accumulative_counts", 1) != 1,
    )
    return {name: line for name, line in found.items() if not needless[name]}


def fewest(memory: Memory, known: Mapping[str, str], room: float) -> tuple[str, ...] | None:
    """The fewest of the `known` savers with which a training takes at most `room` bytes; None where all are too few."""
    return next((savers for savers in choices(known) if memory.parts(savers)["total"] <= room), None)


def choices(known: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """All choices among the `known` savers, those of fewer lines first."""
    for number in range(len(known) + 1):
        yield from combinations(known, number)


def fits(memory: Memory, config: Config, plan: Plan) -> dict:
    """For `summary`: each line with the bytes it saves by itself, all lines together, and those that each GPU needs."""
    known = lines(config, plan)
    total = memory.parts()["total"]
    needed = {size: fewest(memory, known, size * 1e9) for size in GPUS}
    return dict(
        savers={line: total - memory.parts([name])["total"] for name, line in known.items()},
        least=memory.parts(list(known))["total"],
        gpus={size: None if savers is None else [known[name] for name in savers] for size, savers in needed.items()},
    )


def check_released(config: Config, plan: Plan | None) -> None:
    """Raise InputError for a training that needs all gradients at once, and lets each go in backward."""
    wrapper = config.optim_wrapper
    if not is_released(wrapper):
        return
    check_alone(wrapper.get("accumulative_counts", 1), wrapper.get("clip_grad"))
    other = "; set optim_wrapper.type=MixedPrecision"
    if plan is not None and plan.dtype == torch.float16:
        raise InputError(f"model.dtype=float16 scales all gradients by one number, and OptimizerInBackward has few{other}")
    if config.get("launcher", "none") != "none" or config.get("model_wrapper_cfg"):
        raise InputError(f"OptimizerInBackward updates before several ranks have averaged their gradients{other}")


def check_fits(config: Config, plan: Plan, room: int) -> None:
    """Warn of a GPU with `room` bytes that is likely to be too small; raise InputError where it is for what stays in it."""
    memory, known = Memory(config, plan), lines(config, plan)
    parts = memory.parts()
    if parts["total"] <= room:
        return
    savers = fewest(memory, known, room)
    remedy = " ".join(known[name] for name in savers) if savers else "a smaller train_dataloader.batch_size, or an adapter"
    stays = sum(parts[name] or 0 for name in ("weights", "critics", "optimizer", "ema", "teacher", "frozen"))
    whole, least, there = (f"{size / 1e9:.1f} GB" for size in (parts["total"], stays, room))
    text = f"this training takes about {whole}, {least} of it at any time, and the GPU has {there}; what would fit: {remedy}"
    if stays > room:
        raise InputError(text)
    warn_once(text)


def check_memory(config: Config, plan: Plan | None) -> None:
    """Raise InputError for what cannot save memory together, and on a GPU for a training that is too large for it."""
    check_released(config, plan)
    if plan is not None and torch.cuda.is_available() and not config.get("model_wrapper_cfg"):
        check_fits(config, plan, torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
