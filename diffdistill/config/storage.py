"""How many bytes of tensors are alive at a time, counted as they are made and freed; on the meta device as on any other."""

import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary


class LiveBytes(TorchDispatchMode):
    """Inside the block, `now` and `peak` count the bytes of the tensors that are made there and are still alive.

    `on_growth` is called whenever there are more. What a kernel uses inside itself is not seen, nor what an allocator keeps
    for later.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.on_growth: Callable[[], object] = lambda: None
        self._seen = WeakIdKeyDictionary(ref_type=weakref.ref)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def ignore(self, *models: nn.Module) -> None:
        """Leave out the parameters and buffers of `models`, of which operations return views."""
        for model in models:
            for tensor in (*model.parameters(), *model.buffers()):
                self._seen[tensor.untyped_storage()] = 0

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            size = self._seen[storage] = storage.nbytes()
            weakref.finalize(storage, self._free, size)
            self.now += size
            self.peak = max(self.peak, self.now)
            self.on_growth()

    def _free(self, size: int) -> None:
        self.now -= size


LOWERED = (F.linear, torch.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.baddbmm, torch.addmm)
RAISED = (F.layer_norm, F.group_norm, torch.softmax, Tensor.softmax, F.softmax, F.rms_norm)


class Kernels(TorchFunctionMode):
    """What the meta device does not do by itself: autocast, and attention that never holds its weights.

    Args:
        dtype: that of autocast, inside `autocast()`.
        device: whose rules of autocast apply: on a GPU norms and softmax compute in fp32.
    """

    def __init__(self, dtype: torch.dtype, device: str):
        super().__init__()
        self.dtype, self.raised = dtype, RAISED if device == "cuda" else ()
        self.casts, self._weights = False, None

    @contextmanager
    def autocast(self, cache: bool = True) -> Iterator[None]:
        """Inside the block, operations cast as under torch's autocast, which keeps a cast weight to its end (`cache`)."""
        self.casts, self._weights = self.dtype != torch.float32, {} if cache else None
        try:
            yield
        finally:
            self.casts, self._weights = False, None

    def contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """For `checkpoint`: what runs again in backward does so inside a function of torch, where no mode counts."""
        return nullcontext(), self._again()

    @contextmanager
    def _again(self) -> Iterator[None]:
        with self, self.autocast(cache=False):
            yield

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            given = inspect.signature(attend).bind(*args, **kwargs)
            query, key, value = (self._cast(each, self.dtype) if self.casts else each for each in given.args[:3])
            return FusedAttention.apply(query, key, value)
        if self.casts and function in (*LOWERED, *self.raised):
            dtype = self.dtype if function in LOWERED else torch.float32
            args, kwargs = tree_map(lambda each: self._cast(each, dtype), (tuple(args), kwargs))
        return function(*args, **kwargs)

    def _cast(self, value, dtype: torch.dtype):
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if self._weights is None or not (value.is_leaf and value.requires_grad and dtype == self.dtype):
            return value.to(dtype)
        if id(value) not in self._weights:
            self._weights[id(value)] = value.to(dtype)
        return self._weights[id(value)]


def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """The arguments of `F.scaled_dot_product_attention`, which cannot be asked for them."""


class FusedAttention(torch.autograd.Function):
    """What fused attention keeps: its inputs, its output, and for each query the logarithm of a sum (Dao et al., 2022)."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """A tensor of the output's shape; what backward needs is kept."""
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        """Tensors of the shapes of the three gradients."""
        return tuple(torch.empty_like(each) for each in ctx.saved_tensors[:3])
