"""The denoiser as a picture, one mark a layer, stages side by side or going down and up again; and a table of sizes."""

from collections.abc import Mapping

from markupsafe import Markup, escape

from diffdistill.report.numbers import operations, percent

PARTS = {"down": "in the down stages", "mid": "in the mid block", "up": "in the up stages"}
LAYERS = {"resnets": "ResNets", "attentions": "attentions", "transformer_blocks": "transformer layers"}
ROW = 20  # marks in a row at most, where a stage has no ResNets
MARK, GAP, BETWEEN, DROP, PADDING = 9, 4, 12, 40, 8
HEADING, LETTER = 34, 7


def columns_of(layers: Mapping[str, bool]) -> list[list[tuple[str, bool]]]:
    """The layers of a stage, in the order in which they run: every ResNet begins a column, and transformer layers follow.

    A stage without ResNets, a list of a transformer's blocks, is read row by row, rows as equal as may be.
    """
    if not any(".resnets." in name for name in layers):
        rows = -(-len(layers) // ROW)
        wide = -(-len(layers) // max(rows, 1))
        return [list(layers.items())[start::wide] for start in range(wide)]
    columns: list[list[tuple[str, bool]]] = []
    for name, kept in layers.items():
        if ".resnets." in name or not columns:
            columns.append([])
        columns[-1].append((name, kept))
    return columns


def depths(blocks: list[str]) -> dict[str, int]:
    """How deep each stage lies: deeper with every stage on the way down, and back on the way up."""
    down = [block for block in blocks if block.startswith("down")]
    up = [block for block in blocks if block.startswith("up")]
    found = {block: level for level, block in enumerate(down)}
    found |= {block: len(up) - 1 - level for level, block in enumerate(up)}
    return found | {block: len(down) for block in blocks if block not in found}


def title_of(block: str) -> str:
    """The heading of a stage: "down 0", "mid", "transformer blocks"."""
    return block.replace("_blocks.", " ").removesuffix("_block").replace("_", " ")


def network_picture(kept: Mapping[str, Mapping[str, bool]], shades: Mapping[str, tuple[float, str]] | None = None) -> Markup:
    """SVG of `kept` (stage -> layer -> whether the student has it): filled marks are kept, hollow ones dropped.

    With `shades`, layer -> (0 to 1, text), marks are as dark as these say, and one without is hollow.
    """
    stages = {block: columns_of(layers) for block, layers in kept.items()}
    level = depths(list(stages))
    step = MARK + GAP
    x, boxes = 1.0, {}
    for block, columns in stages.items():
        wide = max(len(columns) * step - GAP + 2 * PADDING, 44, LETTER * len(title_of(block)))
        tall = max(map(len, columns), default=0) * step - GAP + 2 * PADDING
        boxes[block] = (x, HEADING + level[block] * DROP, wide, tall)
        x += wide + BETWEEN
    width = x - BETWEEN + 1
    height = max(top + tall for _, top, _, tall in boxes.values()) + 2

    parts = []
    down, up = ([block for block in boxes if block.startswith(way)] for way in ("down", "up"))
    for block, partner in zip(down, reversed(up), strict=False):  # skip connections join stages of one depth
        left, top, wide, _ = boxes[block]
        line = f'x1="{left + wide:.1f}" x2="{boxes[partner][0]:.1f}" y1="{top + 6}" y2="{boxes[partner][1] + 6}"'
        parts.append(f'<line class="skip" {line}/>')
    for block, columns in stages.items():
        left, top, wide, tall = boxes[block]
        layers = [kept for column in columns for _, kept in column]
        parts.append(f'<rect class="stage" x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{tall}" rx="6"/>')
        parts.append(f'<text class="name" x="{left + wide / 2:.1f}" y="{top - 17}">{escape(title_of(block))}</text>')
        parts.append(f'<text class="share" x="{left + wide / 2:.1f}" y="{top - 5}">{sum(layers)}/{len(layers)}</text>')
        inner = left + (wide - (len(columns) * step - GAP)) / 2
        for i, column in enumerate(columns):
            for j, (layer, is_kept) in enumerate(column):
                parts.append(mark(layer, is_kept, inner + i * step, top + PADDING + j * step, shades))
    label = f"{sum(sum(layers.values()) for layers in kept.values())} layers kept of {sum(map(len, kept.values()))}"
    return Markup(
        f'<svg class="network" viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{2 * width:.0f}px" role="img"'
        f' aria-label="{label}">{"".join(parts)}</svg>'
    )


def mark(layer: str, kept: bool, left: float, top: float, shades: Mapping[str, tuple[float, str]] | None = None) -> str:
    """A circle for a ResNet, a square for a transformer layer."""
    style, half, said = "kept" if kept else "dropped", MARK / 2, "kept" if kept else "dropped"
    if shades is not None:
        shade, said = shades.get(layer, (None, "not to be left out alone"))
        style = "dropped" if shade is None else f'kept" fill-opacity="{shade:.2f}" stroke-opacity="{max(shade, 0.25):.2f}'
    title = f"<title>{escape(layer)}: {escape(said)}</title>"
    if ".resnets." in layer:
        return f'<circle class="{style}" cx="{left + half:.1f}" cy="{top + half:.1f}" r="{half - 0.5}">{title}</circle>'
    corner, side = f'x="{left + 0.5:.1f}" y="{top + 0.5:.1f}"', MARK - 1
    return f'<rect class="{style}" {corner} width="{side}" height="{side}">{title}</rect>'


def network_rows(figures: Mapping) -> list[tuple[str, str, str, str]]:
    """Sizes and layers of `figures`: what it is, the teacher's, the student's, the share that the student keeps."""
    teacher, student = figures["teacher"], figures["student"]

    def row(label: str, write, whole: float, part: float) -> tuple[str, str, str, str]:
        return label, write(whole), write(part), percent(part, whole)

    rows = [row("parameters", "{:,.0f}".format, teacher["parameters"], student["parameters"])]
    for label, whole in teacher["parts"].items():
        if whole:
            text = PARTS.get(label, f"in the {label.replace('_', ' ')}")
            rows.append(row(text, "{:,.0f}".format, whole, student["parts"][label]))
    rows.append(row("operations of a call", operations, teacher["gmacs"], student["gmacs"]))
    for kind, number in teacher["layers"].items():
        label = kind.replace("_", " ")
        label = label if kind in teacher["parts"] else LAYERS.get(kind, label)  # a transformer's layers are its parts
        rows.append(row(label, str, number, student["layers"].get(kind, 0)))
    return rows
