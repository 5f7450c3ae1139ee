"""The alternate stack of signal handlers, kept as it was while OpenVINO is at work."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux: where the handlers of a thread's signals run, if not on the thread's own stack."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """The alternate stack of this thread; its flags are 2 (SS_DISABLE) where there is none. On Linux alone."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """After the block the thread's alternate stack is the one from before it.

    Every engine that OpenVINO's CPU plugin makes sets one of its own, and when it ends frees that and puts back the one it
    had found. Of two engines, the first may end first; then the second puts back what is freed, and the next signal that
    Python handles, such as that of a loader's ended worker, writes there: a segmentation fault, or worse, none.
    Seen in OpenVINO 2026.4.
    """
    if sys.platform != "linux":
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
