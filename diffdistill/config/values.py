"""The ranges of a config's numbers, wherever a number outside would stop a run late or ruin it without a word."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from diffdistill.config.annotations import shorten
from diffdistill.engine.resuming import flatten
from diffdistill.errors import InputError


class Range(NamedTuple):
    """Numbers from `low`, without it if `above`, to `high`, and whole if `whole`; and -1 if `never`, as MMEngine spells it.

    Infinity only if `endless`.
    """

    low: float = 0
    high: float = math.inf
    above: bool = False
    whole: bool = False
    never: bool = False
    endless: bool = False

    def __contains__(self, value: float) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if value == math.inf:
            return self.endless
        return self.low < value <= self.high or (value == self.low and not self.above) or (self.never and value == -1)

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.high != math.inf:
            low = f"above {self.low:g}, and at most {self.high:g}" if self.above else f"from {self.low:g} to {self.high:g}"
        kind = "a whole number" if self.whole else "a number"
        return f"{kind}, {low}" + (", or -1 for never" if self.never else "")


POSITIVE, COUNT, INTERVAL = Range(above=True), Range(1, whole=True), Range(1, whole=True, never=True)
# Pattern of a dotted path, whose * stands for any keys -> the numbers that may be there. None may be anywhere.
RANGES = {
    "randomness.seed": Range(0, 2**32 - 1, whole=True),
    "*.seed": Range(0, 2**63 - 1, whole=True),
    "*_dataloader.batch_size": COUNT,
    "*_dataloader.num_workers": Range(whole=True),
    "*_dataloader.num_batch_per_epoch": COUNT,
    "*_dataloader.prefetch_factor": COUNT,
    "train_cfg.max_iters": COUNT,
    "train_cfg.val_interval": COUNT,
    "train_cfg.val_begin": COUNT,
    "optim_wrapper.accumulative_counts": COUNT,
    "optim_wrapper.optimizer.lr": Range(),
    "optim_wrapper.optimizer.weight_decay": Range(),
    "optim_wrapper.clip_grad.max_norm": Range(above=True, endless=True),
    "optim_wrapper.clip_grad.clip_value": POSITIVE,
    "optim_wrapper.clip_grad.norm_type": Range(above=True, endless=True),
    "param_scheduler*.begin": Range(whole=True),
    "param_scheduler*.end": COUNT,
    "param_scheduler*.T_max": COUNT,
    "param_scheduler*.eta_min": Range(),
    "param_scheduler*.eta_min_ratio": Range(0, 1),
    "default_hooks.ema.interval": COUNT,
    "*_hooks.*.interval": INTERVAL,
    "default_hooks.checkpoint.max_keep_ckpts": INTERVAL,
    "default_hooks.ema.momentum": Range(0, 1, above=True),
    "log_processor.window_size": COUNT,
    "log_processor.num_digits": COUNT,
    "auto_scale_lr.base_batch_size": COUNT,
    "model.losses.*.weight": Range(),
    "model.sampling.num_inference_steps": COUNT,
    "model.sampling.guidance_scale": Range(),
    "model.sampling.height": COUNT,
    "model.sampling.width": COUNT,
    "model.*adapter*.r": Range(whole=True),  # 0 is OFT's, whose blocks have a size instead; peft refuses the others
    "model.*adapter*.lora_alpha": POSITIVE,
    "model.*adapter*.alpha": POSITIVE,
    "model.*adapter*dropout": Range(0, 1),
}


def check_values(config: Mapping) -> None:
    """Raise InputError for a number outside the range of its place, or one that is not a number at all."""
    for where, value in flatten(config):
        if value is None or isinstance(value, Mapping | list):  # of these only empty ones are values
            continue
        if isinstance(value, float) and math.isnan(value):
            raise InputError(f"{where}=nan is no number")
        for pattern, allowed in RANGES.items():
            if fnmatchcase(where, pattern):
                if value not in allowed:
                    raise InputError(f"{where}={shorten(value)} must be {allowed}")
                break
