"""How fast teacher and students are: one call of the denoiser, and the whole pipeline, all models in one interleaved run."""

import inspect
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import diffusers
import torch
from torch import nn

from diffdistill.benchmarks.candidates import Candidate, Loader, load_all
from diffdistill.benchmarks.machine import machine
from diffdistill.benchmarks.published import PRESETS
from diffdistill.benchmarks.timing import Part, interleave, median_ratio, ninetieth
from diffdistill.benchmarks.variants import Variant
from diffdistill.errors import InputError
from diffdistill.families.reading import check_resolution
from diffdistill.models.plan import DTYPES, warn_of_half_on_cpu
from diffdistill.students.cut import build_on_meta
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.size import count, measure

PROMPT = "a dog"  # most text encoders pad it to the same length as any other


@dataclass(frozen=True)
class Protocol:
    """What is measured, and how often.

    `resolution` is the side of a picture in pixels, by default the native one of each model. A step is one call of the
    denoiser with `batch` samples; in the pipeline, guidance (any `guidance_scale` above 1) doubles them, unless the denoiser
    is told the scale.
    """

    device: str
    dtype: str
    resolution: int | None = None
    steps: int = 25
    batch: int = 1
    guidance_scale: float = 7.5
    rounds: int = 10
    warmup: int = 2
    variants: tuple[str, ...] = ("eager",)
    parts: tuple[str, ...] = ("step", "pipeline")
    preset: str | None = None

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise InputError(f"--dtype {self.dtype} is unknown; choose from {', '.join(DTYPES)}")
        warn_of_half_on_cpu(self.dtype, "--dtype", self.device)
        for key in ("steps", "batch", "rounds", "warmup"):
            if getattr(self, key) < 1:
                raise InputError(f"--{key} {getattr(self, key)}: give 1 or more")
        for name in self.variants:
            Variant(name)


@dataclass
class Entry:
    """A candidate run in one of the variants."""

    candidate: Candidate
    variant: Variant

    def __post_init__(self):
        self.name = f"{self.candidate.name}, {self.variant.name}"
        self.wrapped = self.variant.wrap(self.candidate.denoiser)

    def part(self, function: Callable[[], object]) -> Part:
        """The part that calls `function` in this entry's variant; bringing the weights into its form is not timed."""
        denoiser = self.candidate.denoiser
        return Part(lambda: self.variant.run(function, denoiser), lambda: self.variant.prepare(denoiser))


def latent_size(candidate: Candidate, resolution: int | None) -> int:
    """Width of the latents of a picture `resolution` wide, by default of the native one.

    Raises InputError for a resolution that the VAE, or the denoiser, cannot divide.
    """
    if resolution is None:
        return rules_of(type(candidate.denoiser)).latent_size(candidate.denoiser.config)
    if candidate.family:
        check_resolution(candidate.family, resolution, resolution, f"--resolution {resolution}, {candidate.name}")
    if resolution % candidate.latent_pixels:
        raise InputError(f"--resolution {resolution}: {candidate.name} needs a multiple of {candidate.latent_pixels}")
    return resolution // candidate.latent_pixels


def step_inputs(denoiser: nn.Module, size: int, protocol: Protocol) -> dict:
    """Random inputs of a denoiser in the protocol's dtype, on its device; what is not zero, such as a mask, stays."""

    def fill(value):
        if isinstance(value, dict):
            return {key: fill(entry) for key, entry in value.items()}
        if isinstance(value, list):  # an entry for each sample
            return value * protocol.batch
        if not isinstance(value, torch.Tensor):
            return value
        if len(value) == 1:  # else it is the same for all samples, such as the places of tokens
            value = value.repeat(protocol.batch, *[1] * (value.ndim - 1))
        if not value.is_floating_point():
            return value.to(protocol.device)
        value = value if value.any() else torch.randn(value.shape)
        return value.to(protocol.device, DTYPES[protocol.dtype])

    return fill(rules_of(type(denoiser)).inputs(denoiser.config, size))


def guidance(pipeline: diffusers.DiffusionPipeline, scale: float) -> dict:
    """The arguments of the pipeline's call that guide it by `scale`."""
    if inspect.signature(pipeline.__call__).parameters["guidance_scale"].default is None:
        # Of Qwen-Image: its guidance_scale is for denoisers that are told the scale, of which none is published.
        return dict(true_cfg_scale=scale, negative_prompt=" ")
    return dict(guidance_scale=scale)


def call_denoiser(entry: Entry, protocol: Protocol) -> Callable[[], object]:
    """A function that calls the entry's denoiser once, on random inputs that are drawn now."""
    inputs = step_inputs(entry.candidate.denoiser, latent_size(entry.candidate, protocol.resolution), protocol)
    return lambda: entry.wrapped(**inputs, return_dict=False)


def call_pipeline(entry: Entry, protocol: Protocol) -> Callable[[], object]:
    """A function that makes one batch of pictures with the entry's pipeline, always from the same noise."""
    candidate, pipeline = entry.candidate, entry.candidate.pipeline
    side, place = latent_size(candidate, protocol.resolution) * candidate.latent_pixels, candidate.family.denoiser_name
    options = {**candidate.family.call_options, **guidance(pipeline, protocol.guidance_scale), "height": side, "width": side}
    pipeline.set_progress_bar_config(disable=True)

    def run():
        setattr(pipeline, place, entry.wrapped)
        try:
            return pipeline(
                prompt=[PROMPT] * protocol.batch,
                num_inference_steps=protocol.steps,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
                **options,
            )
        finally:
            setattr(pipeline, place, candidate.denoiser)

    return run


def weight_bytes(*models: object) -> int:
    """Bytes of the weights and buffers of `models`; what is no module, such as a tokenizer, counts nothing."""
    tensors = (tensor for model in models if isinstance(model, nn.Module) for tensor in model.state_dict().values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def describe(entry: Entry, protocol: Protocol) -> dict:
    """What is known of an entry before it runs. GMACs are of one sample, counted on the meta device."""
    candidate = entry.candidate
    size = latent_size(candidate, protocol.resolution)
    figures, _ = measure(build_on_meta(type(candidate.denoiser), candidate.denoiser.config), size=size)
    return dict(
        model=candidate.name,
        variant=entry.variant.name,
        weights=candidate.weights,
        resolution=size * candidate.latent_pixels,
        parameters=count(candidate.denoiser),
        gmacs=figures["gmacs"],
        gmacs_without_attention=figures["gmacs_without_attention"],
    )


def compare(times: dict[str, list[float]], prefix: str) -> dict[str, dict]:
    """Median, 90th percentile, and speed-up over the first (median over rounds of the ratio within a round), by name."""
    first = next(iter(times.values()))
    return {
        name: {
            f"{prefix}_seconds": statistics.median(values),
            f"{prefix}_p90": ninetieth(values),
            f"{prefix}_speedup": median_ratio(first, values),
        }
        for name, values in times.items()
    }


def measure_inference(candidates: Sequence[Candidate], protocol: Protocol) -> list[dict]:
    """A row for every candidate and variant; ratios are to the first row.

    Peak memory counts the entry alone: its weights, and what a call adds to all that is loaded.
    """
    entries = [Entry(candidate, Variant(name)) for candidate, name in product(candidates, protocol.variants)]
    rows = {entry.name: describe(entry, protocol) for entry in entries}
    calls = dict(step=call_denoiser, pipeline=call_pipeline)
    for kind in protocol.parts:
        taking_part = [entry for entry in entries if kind == "step" or entry.candidate.pipeline is not None]
        parts = {entry.name: entry.part(calls[kind](entry, protocol)) for entry in taking_part}
        if not parts:
            continue
        times, rises = interleave(parts, protocol.rounds, protocol.warmup, protocol.device, kind)
        for name, figures in compare(times, kind).items():
            rows[name].update(figures)
        for entry in taking_part:
            candidate, rise = entry.candidate, rises[entry.name]
            models = [candidate.denoiser] if kind == "step" else candidate.pipeline.components.values()
            rows[entry.name][f"{kind}_peak_gb"] = None if rise is None else (weight_bytes(*models) + rise) / 1e9
    for row in rows.values():
        if "pipeline_seconds" in row:
            row["images_per_second"] = protocol.batch / row["pipeline_seconds"]
        if protocol.preset:
            published = PRESETS[protocol.preset].published.get(row["parameters"], (None, None))
            row.update(published_seconds=published[0], published_peak_gb=published[1])
    return list(rows.values())


def choose_protocol(
    preset: str | None = None, device: str | None = None, dtype: str | None = None, steps: int | None = None, **options
) -> Protocol:
    """A protocol with what is not given (None) taken from the preset, then from the machine."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here; leave it out to measure on the CPU")
    given = PRESETS.get(preset)
    dtype = dtype or (given.dtype if given else "float16" if device == "cuda" else "float32")
    return Protocol(device, dtype, steps=steps or (given.steps if given else 25), preset=preset, **options)


def benchmark_inference(sources: Sequence[str], protocol: Protocol, random_weights: bool = False) -> dict:
    """Load `sources` and measure them; returns a dict of the `rows`, the `protocol` and the `machine`."""
    loader = Loader(DTYPES[protocol.dtype], protocol.device, random_weights, pipelines="pipeline" in protocol.parts)
    candidates = load_all(loader, sources)
    for candidate in candidates:
        latent_size(candidate, protocol.resolution)
    rows = measure_inference(candidates, protocol)
    return dict(rows=rows, protocol=asdict(protocol), machine=machine(protocol.device))
