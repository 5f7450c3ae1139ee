"""The device memory of a training, from its config alone: what stays, and what a step holds beside it at its peak."""

import math
from collections.abc import Collection, Mapping

import torch
from mmengine.config import Config
from torch import nn

from diffdistill import registry
from diffdistill.config.rehearsal import rehearse
from diffdistill.datasets.transforms import Crop
from diffdistill.models.adapters import trainable
from diffdistill.models.plan import Plan
from diffdistill.students.cut import build_on_meta
from diffdistill.students.size import count

# Bytes of optimizer state per parameter of 4 bytes, by the class's name in lower case. Adafactor is counted from shapes.
STATE_BYTES = {
    **dict.fromkeys(["adam", "adamw", "nadam", "radam", "adamax", "adan", "schedulefreeadamw", "prodigy"], 8),
    **dict.fromkeys(["sgd", "lion", "adagrad", "rmsprop", "sophia"], 4),
    **dict.fromkeys(["adam8bit", "adamw8bit", "pagedadam8bit", "pagedadamw8bit"], 2),
    **dict.fromkeys(["lion8bit", "pagedlion8bit", "sgd8bit", "rmsprop8bit", "adagrad8bit"], 1),
}
WHOLE_BELOW, BLOCK = 4096, 256  # bitsandbytes: tensors of fewer elements stay in fp32; the others have a scale a block
LATENTS = 64  # pixels: the side of a square that becomes whole latents and tokens in every stage of any denoiser
SCALE = 4  # bytes of the scale of each row of a weight in 8 bits
FOREACH = ("adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad")  # torch's, which hold a copy in an update


SAVERS = ("recompute", "optimizer", "quantize", "offload", "release")  # what a config may add; `fit.py` has their lines


def count_trainable(model: nn.Module) -> int:
    """The number of parameters of `model` that have gradients."""
    return sum(parameter.numel() for parameter in trainable(model).values())


def name_of(optimizer: Mapping) -> str:
    """The class of an optimizer's config in lower case, without its module."""
    name = optimizer["type"] if isinstance(optimizer["type"], str) else optimizer["type"].__name__
    return name.rsplit(".", 1)[-1].lower()


def optimizer_bytes(optimizer: Mapping, model: nn.Module) -> int | None:
    """Bytes of the optimizer's state for the fp32 parameters that are trained; None for a class that is not known here."""
    size, name = count_trainable(model), name_of(optimizer)
    if name == "adafactor":
        # Rows and columns over the last two dimensions, whole below two (Shazeer and Stern, 2018, sec. 3 and 4).
        shapes = [tuple(parameter.shape) for parameter in trainable(model).values()]
        factors = [torch.Size(s[:-1]).numel() + torch.Size(s[:-2] + s[-1:]).numel() if len(s) > 1 else s[0] for s in shapes]
        first_moment = size if optimizer.get("beta1") is not None else 0
        return 4 * (sum(factors) + first_moment)
    if name == "sgd" and not optimizer.get("momentum"):
        return 0
    if name not in STATE_BYTES:
        return None
    if not name.endswith("8bit"):
        return STATE_BYTES[name] * size
    sizes = [parameter.numel() for parameter in trainable(model).values()]
    scale = 4 / BLOCK
    return int(STATE_BYTES[name] * sum(n * (4 if n < WHOLE_BELOW else 1 + scale) for n in sizes))


class Memory:
    """What a training takes on the device at its peak, as its config says it and with other lines that save memory.

    It does not count the context of the device, what its allocator keeps, nor validation.
    """

    def __init__(self, config: Config, plan: Plan, device: str = "cuda"):
        self.wrapper, self.plan, self.device = config.optim_wrapper, plan, device
        self.batch = config.train_dataloader.get("batch_size", 1)
        self.size = picture_size(config, plan)
        family, width = plan.family, plan.dtype.itemsize
        hooks = [hook for hook in (config.get("default_hooks") or {}).values() if hook]
        self.has_ema = any(str(hook["type"]).endswith("EMAHook") for hook in [*hooks, *(config.get("custom_hooks") or [])])
        theirs, ours = (build_on_meta(family.denoiser_class, each) for each in (family.denoiser_config, plan.config))
        self.teacher = stored(theirs, width) if plan.needs_teacher or plan.student_is_teacher else (0, 0)
        whole = family.denoiser_name in plan.whole
        self.base = (0, 0) if whole or plan.student_is_teacher else stored(ours, width)
        frozen = {name: stored(family.build_on_meta(name), width) for name in family.models if name not in plan.whole}
        self.cached = bool(config.get("data_cache"))
        if self.cached:  # encoders come for the time in which pictures are drawn, which does not count here
            frozen = dict(vae=(0, 0))
        self.vae = frozen.pop("vae")[0]
        self.text = tuple(sum(sizes) for sizes in zip(*frozen.values(), strict=True)) if frozen else (0, 0)
        self._steps: dict[bool, dict | None] = {}

    def step(self, recomputed: bool) -> dict | None:
        """What `rehearse` finds of one step, all blocks `recomputed` or those of the config.

        None for a method or a loss that looks at values, which there are none of.
        """
        if recomputed not in self._steps:
            choice = True if recomputed else self.plan.gradient_checkpointing
            try:
                self._steps[recomputed] = rehearse(self.plan, self.batch, self.size, self.device, choice, self.cached)
            except (RuntimeError, NotImplementedError):
                self._steps[recomputed] = None
        return self._steps[recomputed]

    def parts(self, savers: Collection[str] = ()) -> dict[str, int | None]:
        """Bytes by what they are, and their "total"; with `savers`, some of `SAVERS`, added to the config.

        "activations" are all that a step holds beside the gradients at its peak: what is kept for backward, features, and
        what is computed for a moment. None is what cannot be told: the state of an unknown optimizer, or the activations.
        """
        family, trained, critics = self.plan.family, self.plan.on_meta, self.plan.critics
        quantized = "quantize" in savers or family.quantize is not None
        offloaded = "offload" in savers or family.offload
        optimizer = dict(self.wrapper.optimizer)
        if "optimizer" in savers:
            optimizer["type"] = "AdamW8bit"
        parts = dict(
            weights=4 * count(trained),
            critics=4 * count(critics),
            optimizer=optimizer_bytes(optimizer, nn.ModuleList([*trained.values(), *critics.values()])),
            ema=4 * count(trained) * self.has_ema,
            teacher=self.teacher[quantized],
            frozen=self.base[quantized] + (0 if offloaded else self.vae + self.text[quantized]),
        )
        parts |= self.of_step("release" in savers or is_released(self.wrapper), "recompute" in savers, optimizer)
        return parts | dict(total=sum(value or 0 for value in parts.values()))

    def of_step(self, released: bool, recomputed: bool, optimizer: Mapping) -> dict[str, int | None]:
        """Gradients and activations at the peak of a step."""
        step = self.step(recomputed)
        if step is None:
            size = count_trainable(self.plan.on_meta) + count_trainable(self.plan.critics)
            return dict(gradients=0 if released else 4 * size, activations=None)
        if released:
            gradients, peak = step["largest"], step["without_gradients"]
        elif self.wrapper.get("accumulative_counts", 1) > 1:  # those of the batches before are there from the start
            gradients, peak = step["gradients"], step["without_gradients"] + step["gradients"]
        else:
            gradients, peak = step["gradients"], step["peak"]
        at_once = not released and updates_at_once(optimizer, self.device)
        update = gradients + (gradients if at_once else 2 * step["largest"])
        return dict(gradients=gradients, activations=max(peak, update) - gradients)


def stored(model: nn.Module, width: int) -> tuple[int, int]:
    """Bytes of a frozen model whose weights have `width` bytes each, as it is and as `families.thrift.quantize` holds it."""
    whole = width * count(model)
    shapes = [module.weight.shape for module in model.modules() if isinstance(module, nn.Linear)]
    return whole, whole - sum((width - 1) * shape.numel() - SCALE * shape[0] for shape in shapes)


def is_released(wrapper: Mapping) -> bool:
    """Whether an `optim_wrapper` lets each gradient go in backward."""
    return str(wrapper.get("type", "")).endswith("OptimizerInBackward")


def updates_at_once(optimizer: Mapping, device: str) -> bool:
    """Whether an optimizer computes with copies of all parameters in an update, as torch's own do on a GPU by default."""
    own = name_of(optimizer) in FOREACH and "." not in str(optimizer["type"])
    return own and device == "cuda" and not optimizer.get("fused") and optimizer.get("foreach") is not False


def picture_size(config: Config, plan: Plan) -> int:
    """The side of a square of as many pixels as the largest pictures of training, which the last crop says, or just more."""
    transforms = config.train_dataloader.dataset.get("pipeline") or []
    built = [registry.TRANSFORMS.build(dict(each)) for each in transforms if "Crop" in str(each.get("type"))]
    sizes = next((each.sizes for each in reversed(built) if isinstance(each, Crop)), None)
    if sizes is None:
        return plan.family.native_size
    height, width = max(sizes, key=math.prod)
    step = math.gcd(height, width, LATENTS)
    return math.ceil(math.sqrt(height * width) / step) * step
