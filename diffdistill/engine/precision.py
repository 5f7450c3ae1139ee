"""Mixed precision on any device (MMEngine's AmpOptimWrapper asserts a GPU), and updates that must be finite."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from diffdistill.engine.networks import STUDENT
from diffdistill.engine.ranks import on_all_ranks
from diffdistill.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class MixedPrecision(OptimWrapper):
    """An OptimWrapper that scales the loss where the model computes in fp16, and leaves out updates that are not finite.

    The precision has one home, `model.dtype`: the student runs under the model's autocast, and this wrapper adds a
    gradient scaler for fp16, whose small gradients would vanish. bf16 and fp32 need none.

    Where a loss or the norm of the gradients is NaN or infinite on one rank, all of them leave out the update that it
    belongs to, with all that was accumulated for it. `GuardHook` counts these.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: dict | None = None):
        super().__init__(optimizer, accumulative_counts, clip_grad)
        self.scaler: torch.amp.GradScaler | None = None
        self.fault = ""  # why the update that is under way, or has just ended, is left out; empty where it is not
        self._restored: dict | None = None

    def optim_context(self, model):
        """Before the first step of a model in fp16, make the gradient scaler, as the model is known only here."""
        model = getattr(model, "module", model)
        if hasattr(model, "begin"):
            model.begin(self._inner_count, self._inner_count // self._accumulative_counts)
        if self.scaler is None and model.dtype == torch.float16:
            self.scaler = torch.amp.GradScaler(next(model.parameters()).device.type)
            if self._restored:
                self.scaler.load_state_dict(self._restored)
        return super().optim_context(model)

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        """Gather the gradients of `loss` and make the update that is due, unless something of it is not finite."""
        if self.should_update():  # a new update begins
            self.fault = ""
        if not self.fault and not on_all_ranks(bool(loss.detach().isfinite())):
            self.fault = "loss"
        if not self.fault:
            super().update_params(loss, step_kwargs, zero_kwargs)
            return
        self._inner_count += 1
        if self.should_update():
            self.zero_grad(**zero_kwargs or {})

    def backward(self, loss, **options):
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **options)

    def step(self, **options):
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norms = {name: self.norm_of_gradients(name, groups) for name, groups in self.networks().items()}
        bad = next((name for name, norm in norms.items() if not norm.isfinite()), None)
        finite, fault = bad is None, f"gradient norm of {bad}" if bad else "gradient norm"
        if self.scaler is not None:
            # It leaves out what overflows by itself and scales less; where it scales no more, the fault is elsewhere.
            if not finite and self.scaler.get_scale() <= 1:
                self.fault = fault
            self.scaler.step(self.optimizer, **options)
            self.scaler.update()
        elif finite:
            self.optimizer.step(**options)
        else:
            self.fault = fault

    def networks(self) -> dict[str, list[dict]]:
        """The groups of parameters by the network that they are of; "" where they do not say it."""
        found: dict[str, list[dict]] = {}
        for group in self.optimizer.param_groups:
            found.setdefault(group.get("network", ""), []).append(group)
        return found

    def norm_of_gradients(self, network: str, groups: list[dict]) -> Tensor:
        """The norm of a network's gradients, before the config clips them; it is logged where they are clipped by it."""
        trained = [p for group in groups for p in group["params"] if p.grad is not None]
        if not trained:  # it is not the turn of this network
            return torch.zeros(())
        clipping = self.clipping(groups[0])
        by_norm = bool(clipping) and self.clip_func is clip_grad_norm_
        norm = self.clip_func(trained, **clipping) if by_norm else get_total_norm([p.grad for p in trained])
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of shards
        if by_norm and norm.isfinite():
            name = self.grad_name if network in ("", STUDENT) else f"{self.grad_name}_{network}"
            self.message_hub.update_scalar(f"train/{name}", float(norm))
        elif clipping and norm.isfinite():  # value by value, which would make infinite ones finite
            self.clip_func(trained, **clipping)
        return norm

    def clipping(self, group: dict) -> dict:
        """The arguments of the clipping function for the network of a group, which may have a `max_norm` of its own."""
        own = {"max_norm": group["max_norm"]} if "max_norm" in group else {}
        return {**(self.clip_grad_kwargs or {}), **own}

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.scaler is not None:
            state["loss_scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        self._restored = state_dict.pop("loss_scaler", None)
        super().load_state_dict(state_dict)
