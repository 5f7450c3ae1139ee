"""A sample grid that people look at: rows of pictures with their names, columns with their captions."""

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

SMALLEST, LARGEST = 128, 512  # longer side of a shown picture, in pixels
PAPER, INK, GREY, HAIRLINE = "#ffffff", "#1c1c1e", "#6e6e73", "#d8d8dc"
CAPTION_LINES = 5


def picture_grid(
    rows: Sequence[Sequence[Image.Image | np.ndarray]],
    row_labels: Sequence[str],
    captions: Sequence[str],
    title: str = "",
    footer: str = "",
) -> Image.Image:
    """Lay pictures out in rows on white paper, with a label left of each row and a caption above each column.

    Small pictures are enlarged by whole factors without smoothing, so that each pixel stays a square; large ones are
    shrunk to 512 pixels. Text wraps; a caption ends in "…" after five lines.

    Args:
        rows: pictures or uint8 arrays (height, width, 3), as many in each row as there are captions.
        row_labels: one for each row, for instance "teacher" and "student"; further lines of it are shown in grey.
        captions: one for each column.
        title: a line above everything.
        footer: a line below everything, for instance the settings.

    Raises:
        ValueError: labels, captions and pictures disagree in number, or there is no picture.
    """
    counts = [len(row) for row in rows]
    if len(rows) != len(row_labels) or set(counts) != {len(captions)} or not captions:
        raise ValueError(f"{len(row_labels)} row labels and {len(captions)} captions do not fit rows of {counts} pictures")
    shown = [[_to_shown_size(picture) for picture in row] for row in rows]
    width = max(picture.width for row in shown for picture in row)
    heights = [max(picture.height for picture in row) for row in shown]

    size = min(22, max(13, width // 16))
    font, large = ImageFont.load_default(size), ImageFont.load_default(1.4 * size)
    spacing, gap, margin = round(0.5 * size), round(0.7 * size), 2 * size
    line = font.getbbox("A")[3] + spacing  # as Pillow counts it
    headings = [_shorten(wrap(caption, font, width - gap), font, width - gap) for caption in captions]
    labels = [[part for line in label.split("\n") for part in wrap(line, font, width)] for label in row_labels]
    # Under the name, which may itself have been wrapped, the details stand in grey.
    names = [len(wrap(label.split("\n")[0], font, width)) for label in row_labels]
    label_width = max(round(font.getlength(text)) for label in labels for text in label) + round(1.2 * size)

    left = margin + label_width
    top = margin + (round(2.5 * line) if title else 0)
    first = top + line * max(len(heading) for heading in headings) + gap
    bottom = first + sum(heights) + gap * (len(rows) - 1)
    across = left + width * len(captions) + gap * (len(captions) - 1) + margin
    down = bottom + (2 * line if footer else 0) + margin
    across = max(across, *(2 * margin + round(f.getlength(text)) for f, text in ((large, title), (font, footer))))
    paper = Image.new("RGB", (across, down), PAPER)
    draw = ImageDraw.Draw(paper)

    draw.text((margin, margin), title, INK, large)
    for column, heading in enumerate(headings):  # the last line of each rests on its picture
        corner = (left + column * (width + gap), first - gap)
        draw.text(corner, "\n".join(heading), INK, font, anchor="ld", spacing=spacing)
    y = first
    for label, name, row, height in zip(labels, names, shown, heights, strict=True):
        text_top = y + (height - line * len(label)) // 2
        draw.text((margin, text_top), "\n".join(label[:name]), INK, font, spacing=spacing)
        draw.text((margin, text_top + line * name), "\n".join(label[name:]), GREY, font, spacing=spacing)
        for column, picture in enumerate(row):
            framed = ImageOps.expand(picture, 1, HAIRLINE)  # white pictures need an edge
            paper.paste(framed, (left + column * (width + gap) - 1, y - 1))
        y += height + gap
    draw.text((margin, bottom + line), footer, GREY, font)
    return paper


def picture_in(grid: Image.Image) -> Image.Image:
    """The first picture in the last row of what `picture_grid` has laid out: in a run's samples, the student's."""
    frame = np.all(np.asarray(grid.convert("RGB")) == ImageColor.getrgb(HAIRLINE), axis=-1)
    # No line of anything else has as many pixels of that colour as the frames have.
    (top, bottom), (left, right) = (
        np.flatnonzero(count == count.max())[ends]
        for count, ends in ((frame.sum(1), slice(-2, None)), (frame.sum(0), slice(2)))
    )
    return grid.crop((left + 1, top + 1, right, bottom))


def _to_shown_size(picture: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    side = max(picture.size)
    if side > LARGEST:
        picture = picture.copy()
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    elif side < SMALLEST:
        factor = -(-SMALLEST // side)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return picture


def _shorten(lines: list[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    if len(lines) <= CAPTION_LINES:
        return lines
    last = lines[CAPTION_LINES - 1]
    while font.getlength(f"{last}…") > width:
        last = last.rpartition(" ")[0] or last[:-1]
    return [*lines[: CAPTION_LINES - 1], f"{last.rstrip(' ,.')}…"]


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break `text` into lines no wider than `width` pixels: where possible at spaces, or in names at their joints."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for part in re.findall(r"[^_/-]*[_/-]?", word):
            if lines[-1] and font.getlength(lines[-1] + part) > width:
                lines.append("")
            for character in part:
                if font.getlength(lines[-1] + character) > width:
                    lines.append("")
                lines[-1] += character
    return lines
