"""What the figures of a benchmark depend on beside the models."""

import os
import platform
from collections.abc import Mapping

import diffusers
import torch


def machine(device: str) -> dict:
    """The device, its threads, and the versions of the libraries."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    threads = None if device == "cuda" else torch.get_num_threads()
    return dict(device=name, threads=threads, torch=torch.__version__, diffusers=diffusers.__version__)


def described(found: Mapping) -> str:
    """What `machine` has found, as one line of text."""
    threads = f", {found['threads']} thread{'s' if found['threads'] > 1 else ''}" if found["threads"] else ""
    return f"{found['device']}{threads}, torch {found['torch']}, diffusers {found['diffusers']}"
