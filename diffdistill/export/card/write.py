"""Writing the model card of an exported pipeline."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from rich.console import Console

import diffdistill
from diffdistill.config.table import layer_picture
from diffdistill.export.card.licence import Licence
from diffdistill.export.card.metrics import eval_results, metric_tables, metrics_note
from diffdistill.export.card.names import markdown_table, shown
from diffdistill.export.card.source import Source
from diffdistill.export.card.speed import speed_protocol, speed_tables
from diffdistill.export.card.training import stages_table, training_lines
from diffdistill.export.card.usage import command, usage, usage_note
from diffdistill.families.packed import FP8
from diffdistill.families.runtimes import RUNTIMES
from diffdistill.files import is_hub_name
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import DTYPES
from diffdistill.report.network import network_rows
from diffdistill.report.numbers import percent
from diffdistill.report.record import network_figures
from diffdistill.students.quantization import LEVELS

TEMPLATE = Path(__file__).parent / "template.md.jinja"
STUDENT_GRID = "The teacher above, this model below; the prompt and the initial noise are the same in each column."
OWN_GRID = "Pictures of this model."


@dataclass
class Card:
    """What a card says beside what follows from the model.

    Args:
        name: what `from_pretrained` is to load: a name on the hub, or the folder's own.
        source: where the weights are from.
        licence: of what they were made from.
        dtype: of the weights on disk.
        adapter_files: in the exported folder, of an adapter that stands beside its base.
        speed: what a benchmark has found; see `read_speed`.
        runtime: which its graphs are for; None for weights of torch.
        quantized: what `families.packed.pack` says, and the `bytes` on disk; None for plain weights.
    """

    name: str
    source: Source
    licence: Licence
    dtype: str
    adapter_files: list[str]
    speed: Mapping | None = None
    runtime: str | None = None
    quantized: Mapping | None = None


def write_card(model: DiffusionModel, card: Card, folder: Path) -> Path:
    """Write `README.md`, and the sample grid and the licence's file where there are any, into `folder`."""
    source, figures = card.source, network_figures(model)
    is_student = model.distills
    grid = source.copy_grid(folder)
    card.licence.copy_file(folder)
    before = "before the last stage" if source.results.get("stages") else "before training"
    text = ModelCard.from_template(
        front_matter(model, card, figures),
        template_path=str(TEMPLATE),
        title=title(card.name),
        what=what(model, figures, card),
        grid=grid and (STUDENT_GRID if is_student else OWN_GRID),
        usage=command(model, source.config, card.name)
        if card.runtime
        else usage(model, source.config, card.name, card.dtype, card.adapter_files, bool(card.quantized)),
        language="bash" if card.runtime else "python",
        usage_note=usage_note(model, bool(source.records), bool(card.quantized)),
        size=markdown_table(["", "teacher", "this model", "kept"], network_rows(figures)) if is_student else None,
        layers=layers(figures),
        metrics=metric_tables(source.records, before),
        metrics_note=metrics_note(source),
        speed=speed_tables(card.speed) if card.speed else None,
        speed_note=speed_protocol(card.speed) if card.speed else None,
        stages=stages_table(source.results),
        training=list(training_lines(source)),
        licence=card.licence.text,
        version=diffdistill.__version__,
    )
    text.save(folder / "README.md")
    return folder / "README.md"


def title(name: str) -> str:
    """The heading of the card: the last part of a name on the hub, or of a path."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def front_matter(model: DiffusionModel, card: Card, figures: Mapping) -> ModelCardData:
    """The YAML on top, as the hub reads it; names that are on no hub are left out."""
    source, origin = card.source, model.family.checkpoint.name
    data = str(source.config.train_dataloader.dataset.get("source", ""))
    kind = "distillation" if model.distills else "fine-tuning"
    family = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "-", figures["family"]).lower()  # as the hub writes its tags
    tags = ["text-to-image", family, kind, "lora" if card.adapter_files else None, "diffdistill"]
    results = eval_results(source.records)
    return ModelCardData(
        **card.licence.entries,
        base_model=origin if is_hub_name(origin) else None,
        datasets=[data] if is_hub_name(data) else None,
        library_name=card.runtime or "diffusers",
        pipeline_tag="text-to-image",
        tags=[tag for tag in tags if tag],
        **(dict(eval_results=results, model_name=title(card.name)) if results else {}),
    )


def what(model: DiffusionModel, figures: Mapping, card: Card) -> str:
    """Says which model it was made from and how, how large it is, and which parts of the pipeline are the teacher's."""
    origin, student, teacher = shown(model.family.checkpoint.name), figures["student"], figures["teacher"]
    trained = card.source.results.get("trained", {}).get("parameters")
    if not model.distills:
        made = "An adapter for" if card.adapter_files else "A fine-tuned version of"
        size = f": {trained:,} parameters of {', '.join(model.trained)} were trained" if trained else ""
        text = f"{made} {origin}{size}."
    else:
        ours, theirs = student["parameters"], teacher["parameters"]
        text = f"A distilled student of {origin}. "
        if student["layers"] == teacher["layers"]:
            text += f"Its denoiser has all layers of the teacher's ({ours:,} parameters)."
        else:
            text += (
                f"Its denoiser has {percent(ours, theirs)} of the teacher's parameters ({ours:,} of {theirs:,}) and needs"
                f" {percent(student['gmacs'], teacher['gmacs'])} of its operations a call."
            )
        if steps := model.student_sampling.get("num_inference_steps"):
            text += f" It is made to be sampled in {steps} step{'s' if steps > 1 else ''}."
        vae = f"The VAE is that of {shown(model.family.vae.name)}; t" if model.family.vae else "The VAE, t"
        text += f" {vae}ext encoders and tokenizers are the teacher's."
    if card.runtime:
        eight = ", with the weights of denoiser and text encoders in 8 bits" if card.source.compressed else ""
        text += f" Its models are graphs for {RUNTIMES[card.runtime].title}{eight}."
    if card.quantized:
        text += f" {quantized_text(model, card)}"
    if card.adapter_files:
        text += " What was trained is an adapter: the folder holds the whole pipeline, and the adapter beside it."
    return text


def quantized_text(model: DiffusionModel, card: Card) -> str:
    """Says to what the weights were quantised, when, which of them, and the bytes on disk."""
    figures, count = card.quantized, sum(weight.numel() for weight in model.student.parameters())
    if figures["way"] == FP8:
        kind = "8-bit floats, with a scale a row"
    else:
        size = figures["group_size"]
        share = f"groups of {size} input channels" if size else "rows"
        kind = f"{LEVELS[figures['bits']]} values ({figures['bits']} bits) in {share}"
        kind += ", and their inputs to 8 bits in linear layers" if figures["activations"] else ""
    when = "" if card.source.quantize == card.source.trained_quantize else " after training"
    name, plain = model.family.denoiser_name, count * DTYPES[card.dtype].itemsize
    return (
        f"The weights of {figures['layers']} layers, {percent(figures['parameters'], count)} of the parameters, were"
        f" quantised{when} to {kind}. Each takes a byte: `{name}/` has {figures['bytes'] / 1e6:,.1f} MB, where it would have"
        f" {plain / 1e6:,.1f} MB in {card.dtype}."
    )


def layers(figures: Mapping) -> str:
    """The layers of teacher and student as lines of text, drawn as in the summary of a config."""
    console = Console(width=120, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(layer_picture(figures))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
