"""What must be known about a denoiser class of diffusers, so that its students can be cut, compared and drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from diffdistill.errors import InputError
from diffdistill.students.denoisers.choices import Frame, Pick, of_lists

Kept = Mapping[str, Sequence[int]]


def sample_size(config: Mapping) -> int:
    """The width of latents at the native resolution, where the config says it."""
    return config["sample_size"]


def numbered(name: str) -> tuple[str, tuple] | None:
    """The list and the number of a block that stands in a list at the top of the denoiser; None for other modules."""
    stage, _, number = name.partition(".")
    return (stage, (int(number),)) if number.isdigit() else None


@dataclass(frozen=True)
class DenoiserRules:
    """Rules of one denoiser class.

    Attributes:
        thin: (config, kept) -> the diffusers config of a student that keeps the layers `kept` (every ModuleList path of the
            teacher -> kept indices). Raises InputError for layers that it cannot do without.
        inputs: (config, size) -> example inputs of one call, on the current default device.
        hint: what such a config can express, in one clause.
        blocks, layers: the patterns behind `feature_pairs.level`.
        parts: label -> module, whose parameters the summary counts apart.
        place: name of a module -> the stage in which it is drawn and what sorts it there; None for what is not drawn.
        latent_size: config -> the width of the latents at the native resolution.
        streams: pattern of layers that return several tensors -> the names of these, in their order; "picture" is the one to
            compare where a pair names none.
        innermost: patterns of layers, of which the first that fits any says where a picture is smallest; none where it
            has one size throughout.
        guidance_key: of the config, which says whether, or how wide, the guidance scale is embedded.
        add_guidance: (student, width): adds such an embedding; None where that cannot be done.
        choices: (denoiser, pick) -> what a search for a student may leave out.
    """

    thin: Callable[[Mapping, Kept], dict]
    inputs: Callable[..., dict]
    hint: str
    blocks: tuple[str, ...]
    layers: tuple[str, ...]
    parts: Mapping[str, str]
    place: Callable[[str], tuple[str, tuple] | None] = numbered
    latent_size: Callable[[Mapping], int] = sample_size
    streams: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    innermost: tuple[str, ...] = ()
    guidance_key: str | None = None
    add_guidance: Callable[[nn.Module, int], None] | None = None
    choices: Callable[[nn.Module, Pick], list[Frame]] = of_lists

    def embeds_guidance(self, config: Mapping) -> bool:
        """Whether a denoiser of `config` is told the guidance scale by an embedding of it."""
        return self.guidance_key is not None and bool(config.get(self.guidance_key))


RULES: dict[str, DenoiserRules] = {}
REFUSED: dict[str, str] = {}  # class -> why its students cannot be cut


def register(denoiser_class: str, rules: DenoiserRules) -> None:
    """Make `rules` those of the denoisers of the class of that name."""
    RULES[denoiser_class] = rules


def rules_of(denoiser_class: type) -> DenoiserRules:
    """The rules of a denoiser class. Raises InputError for a class that has none."""
    name = denoiser_class.__name__
    if name in REFUSED:
        raise InputError(f"a {name} cannot be cut: {REFUSED[name]}")
    if name not in RULES:
        raise InputError(f"no rules for a {name}; known denoisers: {', '.join(RULES)}")
    return RULES[name]
