"""What several hooks need of a runner."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper

from diffdistill.models.base import DiffusionModel


def model_of(runner) -> DiffusionModel:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@contextmanager
def ema_weights(runner) -> Iterator[bool]:
    """The student has its EMA weights inside the block, if the run keeps an EMA; gives whether it does.

    Not for use inside validation, where EMAHook has already put them in.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)
    if hook is None:
        yield False
        return
    hook._swap_ema_parameters()
    try:
        yield True
    finally:
        hook._swap_ema_parameters()
