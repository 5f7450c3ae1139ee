"""How the page writes numbers, and what it calls the metrics."""

import math

from diffdistill.metrics.record import COLLAPSED

# Name in a validation record -> what it measures, its unit, and which way is better. Another is shown by its own name.
METRICS = {
    "accuracy": ("caption accuracy", "%", "higher"),
    "seen": ("accuracy, captions as in training", "%", "higher"),
    "held_out": ("accuracy, held-out captions", "%", "higher"),
    "shape": ("shapes right", "%", "higher"),
    "colour": ("colours right", "%", "higher"),
    "background": ("backgrounds right", "%", "higher"),
    "size": ("sizes right", "%", "higher"),
    "position": ("positions right", "%", "higher"),
    "position_entropy": ("entropy of positions left open", "bits", "higher"),
    "seed_spread": ("spread over seeds of a caption", "", "higher"),
    "seed_spread_kept": ("spread over seeds, of the teacher's", "%", "higher"),
    "clip_score": ("CLIP score", "", "higher"),
    "preference_score": ("preference score", "", "higher"),
    "fid": ("FID", "", "lower"),
    "kid": ("KID", "", "lower"),
    "inception_score": ("Inception Score", "", "higher"),
    "latent_mse": ("latent MSE to the teacher", "", "lower"),
    "feature_distance": ("feature distance to the teacher", "", "lower"),
}
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit
NOT_METRICS = ("model", "step", "n")


def metric_names(records: list[dict]) -> list[str]:
    """The metrics of validation records, the main one first, then those that say whether the seed still matters."""
    names = {name: None for record in records for name in record if name not in NOT_METRICS}
    found = [name for name in names if any(isinstance(record.get(name), (int, float)) for record in records)]
    return found[:1] + sorted(found[1:], key=lambda name: name.rsplit("/", 1)[-1] not in COLLAPSED)


def title_of(metric: str) -> str:
    """What a metric is called on the page; one that is not known, by its own name with spaces."""
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ")


def unit_of(metric: str) -> str:
    """The unit of a metric, such as "%"; "" where it is not known."""
    return METRICS[metric][1] if metric in METRICS else ""


def better_of(metric: str) -> str:
    """Which way a metric is better, "higher is better" or "lower is better"; "" where it is not known."""
    return f"{METRICS[metric][2]} is better" if metric in METRICS else ""


def with_unit(value: float | None, unit: str) -> str:
    """`value` with its unit, percentages with one decimal; a dash for None, NaN and infinity."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f}{SPACE}%" if unit == "%" else f"{value:.4g}{SPACE}{unit}".strip()


def count(value: float) -> str:
    """A large number, shortened: "1.33 B" for 1,331,334,404."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{SPACE}{letter}"
    return f"{value:,.0f}"


def operations(gmacs: float) -> str:
    """GMACs as text, of a small model as MMACs."""
    if gmacs < 1:
        return f"{1000 * gmacs:.3g}{SPACE}MMACs"
    return f"{gmacs:,.0f}{SPACE}GMACs" if gmacs >= 100 else f"{gmacs:.3g}{SPACE}GMACs"


def percent(part: float, whole: float) -> str:
    """`part` of `whole` in per cent, without decimals; a dash where `whole` is 0."""
    return f"{100 * part / whole:.0f}{SPACE}%" if whole else "–"


def seconds(value: float | None) -> str:
    """A cost in seconds as text, in ms where it is below one; "" for None."""
    if value is None:
        return ""
    return f"{1000 * value:.3g}{SPACE}ms" if value < 1 else f"{value:.3g}{SPACE}s"


def duration(value: float) -> str:
    """A time in seconds as text: "24 s", "3 min 20 s", "5 h 12 min"."""
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def tick(value: float) -> str:
    """The label of a value on an axis: "0.5", "20k", "1e-5"."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:g}k" if size < 1e6 else f"{value / 1e6:g}M"
    if size < 0.01:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.6g}"
