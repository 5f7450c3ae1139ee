"""How fast one call of a denoiser is in torch, OpenVINO and ONNX Runtime on this CPU, and how far the results are apart."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from diffdistill.benchmarks.candidates import Candidate, Loader
from diffdistill.benchmarks.inference import Protocol, compare, latent_size, step_inputs
from diffdistill.benchmarks.machine import machine
from diffdistill.benchmarks.timing import Part, interleave
from diffdistill.benchmarks.variants import Variant
from diffdistill.errors import InputError
from diffdistill.families.graphs import check_runtime, write_graph
from diffdistill.families.runtimes import RUNTIMES, named_tensors
from diffdistill.families.tracing import denoiser_part
from diffdistill.students.size import count

Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Way:
    """A way to run a denoiser: in torch or a `runtime`, computing in `dtype`, `compiled`, or with weights in 8 bits."""

    runtime: str | None = None
    dtype: str = "float32"
    compiled: bool = False
    compress: bool = False


WAYS = {
    "torch": Way(),
    "torch-bf16": Way(dtype="bfloat16"),
    "torch-compile": Way(compiled=True),
    "openvino": Way("openvino"),
    "openvino-bf16": Way("openvino", "bfloat16"),
    "openvino-int8": Way("openvino", compress=True),
    "onnx": Way("onnx"),
    "onnx-int8": Way("onnx", compress=True),
}


def in_torch(denoiser: nn.Module, inputs: Mapping, way: Way) -> Call:
    """A function that calls `denoiser` in torch."""
    if way.dtype != "float32":
        denoiser = nn.Module.to(copy.deepcopy(denoiser), torch.bfloat16)
        inputs = cast(inputs, torch.bfloat16)
    called = Variant("compile").wrap(denoiser) if way.compiled else denoiser
    return torch.no_grad()(lambda: called(**inputs, return_dict=False)[0])


def cast(inputs: Mapping, dtype: torch.dtype) -> dict:
    """The inputs of a call with floating tensors in `dtype`."""
    floating = {
        name: value.to(dtype)
        for name, value in inputs.items()
        if isinstance(value, Tensor) and value.is_floating_point() and name != "timestep"
    }
    nested = {name: cast(value, dtype) for name, value in inputs.items() if isinstance(value, Mapping)}
    return {**inputs, **floating, **nested}


def in_runtime(folder: Path, inputs: Mapping, way: Way) -> Call:
    """A function that calls the graph in `folder`."""
    graph, given = RUNTIMES[way.runtime].open(folder / RUNTIMES[way.runtime].file, way.dtype), dict(named_tensors(inputs))
    return lambda: next(iter(graph(given).values()))


def calls(candidate: Candidate, ways: Sequence[str], protocol: Protocol, folder: Path) -> dict[str, tuple[Call, int]]:
    """Way -> a function that calls the denoiser that way, on the same inputs for all, and the bytes of its weights' files.

    Graphs are written to `folder`; of torch there is no file, and its bytes are those in memory.
    """
    denoiser, found = candidate.denoiser, {}
    torch.manual_seed(0)
    inputs = step_inputs(denoiser, latent_size(candidate, protocol.resolution), protocol)
    for name in ways:
        way = WAYS[name]
        if way.runtime is None:
            size = count(denoiser) * (2 if way.dtype == "bfloat16" else 4)
            found[name] = in_torch(denoiser, inputs, way), size
            continue
        place = folder / f"{way.runtime}-{way.compress}"
        if not place.exists():
            write_graph(denoiser_part(denoiser), place, way.runtime, compress=way.compress)
        found[name] = in_runtime(place, inputs, way), sum(file.stat().st_size for file in place.iterdir())
    return found


def benchmark_runtimes(source: str, ways: Sequence[str], protocol: Protocol, random_weights: bool = False) -> dict:
    """Measure the denoiser of `source` in every way, interleaved; returns a dict of `rows`, `protocol` and `machine`.

    Ratios and differences are to the first way. Raises InputError for an unknown way, or one whose runtime is not installed.
    """
    for name in ways:
        if name not in WAYS:
            raise InputError(f"--ways {name}: unknown; choose from {', '.join(WAYS)}")
    candidate = Loader(torch.float32, "cpu", random_weights, pipelines=False).load(source)
    for way in (WAYS[name] for name in ways):
        if way.runtime and candidate.family:
            check_runtime(way.runtime, candidate.family.pipeline_class, "float32", "int8" if way.compress else None)
    with TemporaryDirectory() as folder:
        made = calls(candidate, ways, protocol, Path(folder))
        outputs = {name: call().float() for name, (call, _) in made.items()}
        times, _ = interleave(
            {name: Part(call) for name, (call, _) in made.items()}, protocol.rounds, protocol.warmup, "cpu"
        )
    first = outputs[ways[0]]
    rows = [
        dict(
            way=name,
            **figures,
            largest_difference=(outputs[name] - first).abs().max().item(),
            weight_bytes=made[name][1],
        )
        for name, figures in compare(times, "step").items()
    ]
    settings = dict(
        model=candidate.name,
        weights=candidate.weights,
        parameters=count(candidate.denoiser),
        resolution=latent_size(candidate, protocol.resolution) * candidate.latent_pixels,
        batch=protocol.batch,
        rounds=protocol.rounds,
        warmup=protocol.warmup,
        output_deviation=first.std().item(),
    )
    return dict(rows=rows, protocol=settings, machine=machine("cpu"))
