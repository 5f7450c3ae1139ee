"""What a run computes on."""

import platform
from pathlib import Path

import torch


def device_name() -> str:
    """The GPU's name, or the processor's and the number of threads that torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} CPU thread{'s' if threads > 1 else ''}"
