"""How a card names checkpoints, data and parts of a config: links to the hub, and of local folders the name alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffdistill.families.checkpoint import PACKAGED
from diffdistill.files import is_hub_name


def shown(name: str, kind: str = "") -> str:
    """A link to what is on the hub; `kind` is "datasets/" for data."""
    if is_hub_name(name):
        return f"[{name}](https://huggingface.co/{kind}{name})"
    return f"`{name if name.startswith(PACKAGED) else Path(name).name}`"


def call(part: Mapping) -> str:
    """A part of a config as it would be called: `FeatureKD(normalize=True)`."""
    kind = part["type"] if isinstance(part["type"], str) else part["type"].__name__
    return f"{kind.rsplit('.', 1)[-1]}({arguments(part)})"


def arguments(part: Mapping) -> str:
    """The arguments of a part of a config as in a call: `normalize=True, weight=0.5`."""
    return ", ".join(f"{key}={value_text(value)}" for key, value in part.items() if key not in ("type", "_scope_"))


def value_text(value) -> str:
    """A value of a config as Python would write it; of an absolute path only the last name, as the rest is private."""
    if isinstance(value, Mapping):
        return call(value) if "type" in value else f"dict({arguments(value)})"
    if isinstance(value, str) and Path(value).is_absolute():  # whose machine it was is nobody's business
        return repr(Path(value).name)
    return repr(value)


def markdown_table(header: list[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column aligned left as text and all others right as figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
