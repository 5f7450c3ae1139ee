"""A training step without values: what it holds in memory beside the weights, told on the meta device.

The step is the method's own, with its losses, on a student and a teacher that have shapes alone.
"""

import copy
from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from diffdistill.config.storage import Kernels, LiveBytes
from diffdistill.families.latents import latent_shape
from diffdistill.families.loading import freeze
from diffdistill.models.adapters import adapter_tree
from diffdistill.models.distiller import Distiller
from diffdistill.models.plan import Plan
from diffdistill.students.cut import build
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.recompute import Choice, recompute


class Rehearsal(Distiller):
    """A model of shapes alone, for the method of a plan: it has no pipeline, and its conditioning is that of the rules."""

    def __init__(self, plan: Plan, kernels: Kernels, recomputed: Choice):
        nn.Module.__init__(self)
        self.family, self.kernels, self.dtype = plan.family, kernels, plan.dtype
        self.losses, self.method, self.layers, self.pairs = plan.losses, plan.method, plan.layers, plan.pairs
        # Copies: schedules move to the device of the latents.
        self.noise_schedule, self.of_teacher = copy.deepcopy((plan.noise_schedule, plan.family.noise_schedule))
        self.family = SimpleNamespace(predict=self.predict, denoiser_name="denoiser", of_picture=())
        name = plan.family.denoiser_name
        student = copy.deepcopy(plan.on_meta[name]) if name in plan.whole else on_meta(plan, plan.config)
        if name in plan.adapters:
            adapter_tree(freeze(student, plan.dtype), *plan.adapters[name])
        recompute(student, recomputed, kernels.contexts)
        teacher = on_meta(plan, plan.family.denoiser_config) if plan.needs_teacher and not plan.student_is_teacher else None
        if teacher is not None:
            freeze(teacher, plan.dtype)
        elif plan.student_is_teacher and plan.needs_teacher:
            teacher = student
        # Outside the module tree, as `Frozen` is.
        vars(self).update(frozen=SimpleNamespace(pipeline=SimpleNamespace(denoiser=teacher), student=student))
        self.get_average = lambda: student if plan.method.needs_average else None
        self.add_critics(plan.describe_critics(teacher) if plan.critics else {}, recomputed, kernels.contexts)

    @property
    def teacher_schedule(self):
        return self.of_teacher

    def autocast(self):
        return self.kernels.autocast()

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        """Call `denoiser` on example inputs of the size and batch of `noisy`; returns a tensor of that shape."""
        inputs = batch_of(rules_of(type(denoiser)).inputs(denoiser.config, noisy.shape[-1]), len(noisy), noisy.dtype)
        name, latents = next(iter(inputs.items()))
        if latents.numel() == noisy.numel():  # so that there is a gradient at what is noisy
            inputs[name] = noisy.reshape(latents.shape)
        output = denoiser(**inputs, return_dict=False)[0]
        return output.reshape(len(noisy), -1)[:, : noisy[0].numel()].reshape(noisy.shape)

    def replace_captions(self, condition: dict, captions) -> dict:
        return condition

    def tell_guidance(self, condition: dict, scales: Tensor, teacher: bool = False) -> dict:
        return condition


def on_meta(plan: Plan, config: Mapping) -> nn.Module:
    """A denoiser of `config` on the meta device that is shared with nobody."""
    with torch.device("meta"):
        return build(plan.family.denoiser_class, config).to("meta")


def batch_of(inputs, size: int, dtype: torch.dtype):
    """Example inputs of one call as those of `size` samples; those of 32-bit floats in `dtype`."""
    if isinstance(inputs, Mapping):
        return {name: batch_of(value, size, dtype) for name, value in inputs.items()}
    if isinstance(inputs, list):
        return inputs * size
    if not isinstance(inputs, Tensor):
        return inputs
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    return inputs.repeat(size, *[1] * (inputs.ndim - 1)) if len(inputs) == 1 else inputs


def rehearse(plan: Plan, batch: int, size: int, device: str, recomputed: Choice, cached: bool = False) -> dict[str, int]:
    """Bytes of a step on `batch` pictures `size` wide, beside weights and the optimizer's state.

    The step is one that trains the student and its critics. Text encoders are left out but for their gradients. `device` is
    "cuda" or "cpu", whose rules of autocast count; `recomputed` are the blocks under gradient checkpointing. Where pictures
    are `cached`, no VAE encodes them.

    Returns: "gradients" of all and of the "largest" parameter, the "peak" of all that the step holds, and the peak
    "without_gradients", where each is let go as soon as it is there.
    """
    kernels, live, family = Kernels(plan.dtype, device), LiveBytes(), plan.family
    held, least, sizes = 0, 0, []

    def note(parameter):
        nonlocal held, least
        sizes.append(parameter.grad.nbytes)
        held += sizes[-1]

    def look():
        nonlocal least
        least = max(least, live.now - held)

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = Rehearsal(plan, kernels, recomputed)
        vae = freeze(family.build_on_meta("vae"), plan.dtype)
        student = model.student.train()
        live.ignore(vae, student, model.critics, *([] if model.teacher is None else [model.teacher]))
        for parameter in {*student.parameters(), *model.critics.parameters()}:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(note)
        live.on_growth = look
        with live, kernels:
            shape = latent_shape(family, size, size)
            if not plan.needs_pictures:
                latents = torch.zeros(batch, *shape)
            elif cached:
                latents = family.draw_latents(vae, dict(mean=torch.zeros(batch, *shape), std=torch.zeros(batch, *shape)))
            else:
                latents = family.encode_pictures(SimpleNamespace(vae=vae), torch.zeros(batch, 3, size, size))
            step = model.method(model, latents, {})
            step.latents, step.condition = latents, {}
            loss = sum(model.score(step).values())
            del step
            loss.backward()
    others = [4 * each.numel() for name in plan.on_meta if name != family.denoiser_name for each in trained(plan, name)]
    gradients, rest = sum(sizes), sum(others)
    return dict(
        gradients=gradients + rest,
        largest=max([*sizes, *others], default=0),
        peak=live.peak + rest,
        without_gradients=least,
    )


def trained(plan: Plan, name: str) -> list[Tensor]:
    """The parameters of the component `name` that are trained."""
    return [parameter for parameter in plan.on_meta[name].parameters() if parameter.requires_grad]
