"""Models that do not fit on one GPU: in pieces over the ranks, of which one block at a time is whole (torch's FSDP2)."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce_params, broadcast, get_world_size, is_main_process
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from diffdistill.families.thrift import is_offloaded
from diffdistill.models.base import DiffusionModel
from diffdistill.students.cut import path_matches
from diffdistill.students.denoisers.rules import rules_of


@MODEL_WRAPPERS.register_module()
class FullyShard(nn.Module):
    """Shards the student, its critics, its teacher and the text encoders over all ranks, by torch's `fully_shard`.

    Every parameter is a DTensor of which a rank holds one piece, with its gradient, its state in the optimizer and its
    average. A unit is a block of the denoiser (`DenoiserRules.layers`) or a layer of a text encoder: it is gathered to
    compute, and let go. What is trained whole is gathered in `model.dtype`, and its gradients are averaged in fp32. An
    adapter is small, and every rank has it whole: it alone is trained then, and its gradients are averaged as by DDP. So is
    the VAE, and a text encoder that is quantised or offloaded.

    Args:
        accumulate_whole: let gradients that are accumulated stay whole on every rank until the update, which saves
            communication and takes the memory of all gradients. By default they are sharded after every iteration.
    """

    def __init__(self, module: DiffusionModel, accumulate_whole: bool = False):
        super().__init__()
        self.accumulate_whole, self.averages_gradients = accumulate_whole, True
        self.mesh = init_device_mesh(get_device(), (get_world_size(),))
        whole = [name for name in module.trained if name not in module.adapted]
        # A dict is no part of the module tree.
        self.structures = {name: on_meta(module.trained[name]) for name in whole}
        self.units = {name: units_of(module, module.trained[name]) for name in whole}
        trees = [module.trained[name] for name in module.adapted]
        trees += [module.critics[name] for name in module.adapter_critics]
        adapters = [parameter for tree in trees for parameter in tree.parameters()]
        critics = [critic for name, critic in module.critics.items() if name not in module.adapter_critics]
        encoders = (getattr(module.frozen.pipeline, name) for name in module.family.text_encoders)
        models = {id(model): model for model in (module.student, module.teacher, *critics, *encoders) if model}
        with hidden([module, *models.values()], adapters):
            for model in models.values():
                if can_be_sharded(model):
                    trained = any(parameter.requires_grad for parameter in model.parameters())
                    shard(model, units_of(module, model), self.mesh, module.dtype if trained else None)
            # All that a step calls is a part of this root. Even blocks that are called by themselves are then initialised.
            fully_shard(module, mesh=self.mesh, reshard_after_forward=True)
        self.module = module.to(get_device())
        for parameter in adapters:
            broadcast(parameter.data)
            parameter.register_post_accumulate_grad_hook(self._average_gradient)

    def _average_gradient(self, parameter: nn.Parameter) -> None:
        if self.averages_gradients:
            all_reduce_params([parameter.grad], op="mean")

    def forward(self, *args, **options):
        """What the model returns."""
        return self.module(*args, **options)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict:
        """One iteration, with an update where it is due; returns what is logged."""
        self.averages_gradients = optim_wrapper.should_sync()
        if self.accumulate_whole:
            self.module.set_requires_gradient_sync(self.averages_gradients)
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: dict) -> list:
        """What the model predicts in validation."""
        return self.module.val_step(data)

    def test_step(self, data: dict) -> list:
        """What the model predicts in a test."""
        return self.module.test_step(data)

    def gather(self) -> dict[str, nn.Module]:
        """The models that are trained whole, by name, on the CPU of the first rank; the other ranks get none.

        Every rank must call it.
        """
        options, found = StateDictOptions(full_state_dict=True, cpu_offload=True), {}
        for name, structure in self.structures.items():
            state = get_model_state_dict(self.module.trained[name], options=options)
            if is_main_process():
                found[name] = copy.deepcopy(structure)
                found[name].load_state_dict(state, assign=True)
        return found

    def copy_trained(self) -> "ShardedCopy":
        """A copy of all that is trained, sharded in the same way."""
        return ShardedCopy(self)


class ShardedCopy(nn.Module):
    """A copy of what a `FullyShard` trains, under the same names; MMEngine deep-copies it once more to average it.

    FSDP2 refuses to be deep-copied. The copy is sharded before it has values, and then takes them rank by rank.
    """

    def __init__(self, wrapper: FullyShard):
        super().__init__()
        model, self.trained = wrapper.module, nn.ModuleDict()
        for name, part in model.trained.items():
            if name not in wrapper.structures:
                self.trained[name] = copy.deepcopy(part)
                continue
            same = copy.deepcopy(wrapper.structures[name])
            shard(same, wrapper.units[name], wrapper.mesh, model.dtype)
            same.to_empty(device=get_device())
            for tensors in (nn.Module.parameters, nn.Module.buffers):
                for mine, theirs in zip(tensors(same), tensors(part), strict=True):
                    mine.data.copy_(theirs.data)
            self.trained[name] = same
        self.denoiser_name = model.family.denoiser_name

    @property
    def student(self) -> nn.Module:
        """The copy of the denoiser."""
        return self.trained[self.denoiser_name]

    def __deepcopy__(self, memo):
        return self


def shard(model: nn.Module, units: Sequence[str], mesh: DeviceMesh, dtype: torch.dtype | None) -> None:
    """Shard `model`, each of the modules `units` for itself; what is trained starts from the values of the first rank.

    Units go to the training device one after the other, so that it never holds all. `dtype`: of gathered parameters that
    are fp32 and trained; under autocast alone, every rank would keep a cast copy of all of them until backward.
    """
    policy = MixedPrecisionPolicy()
    if dtype not in (None, torch.float32):
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for buffer in model.buffers():
        if not buffer.is_meta:
            buffer.data = buffer.data.to(get_device())
            broadcast(buffer.data)  # a spectral norm's start from random values
    for unit in [*map(model.get_submodule, units), model]:
        for parameter in unit.parameters():
            if isinstance(parameter, DTensor) or parameter.is_meta:
                continue
            parameter.data = parameter.data.to(get_device())
            if parameter.requires_grad:  # some may start from random values
                broadcast(parameter.data)
        kind = type(unit)
        fully_shard(unit, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        for name in ("__module__", "__name__", "__qualname__"):  # libraries look up a class by them, and find it so
            setattr(type(unit), name, getattr(kind, name))


def units_of(model: DiffusionModel, part: nn.Module) -> list[str]:
    """The modules of a denoiser or text encoder that are gathered one at a time: blocks, or the entries of its lists."""
    names = [name for name, _ in part.named_modules()]
    if isinstance(part, model.family.denoiser_class):
        patterns = rules_of(type(part)).layers
        return [name for name in names if any(path_matches(pattern, name) for pattern in patterns)]
    lists = [name for name, module in part.named_modules() if isinstance(module, nn.ModuleList)]
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    return [name for name in names if name.rpartition(".")[0] in outermost]


def can_be_sharded(model: nn.Module) -> bool:
    """Whether all of a model's parameters are plain ones, on the training device: not quantised, not offloaded."""
    plain = all(type(parameter) is nn.Parameter and parameter.is_floating_point() for parameter in model.parameters())
    return plain and not is_offloaded(model)


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of `model` without its values."""
    with torch.no_grad():
        memo = {id(each): nn.Parameter(each.to("meta"), each.requires_grad) for each in model.parameters()}
        memo |= {id(each): each.to("meta") for each in model.buffers()}
    return copy.deepcopy(model, memo)


@contextmanager
def hidden(models: Sequence[nn.Module], parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside the block, `parameters` are no part of `models`; `fully_shard` can ignore some only from torch 2.7 on."""
    wanted, taken = {id(parameter) for parameter in parameters}, []
    for module in (module for model in models for module in model.modules()):
        for name, parameter in list(module._parameters.items()):
            if id(parameter) in wanted:
                taken.append((module, name, module._parameters.pop(name)))
    try:
        yield
    finally:
        for module, name, parameter in taken:
            module._parameters[name] = parameter
