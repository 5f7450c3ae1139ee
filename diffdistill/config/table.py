"""The summary of a config as it looks in a terminal."""

from collections.abc import Mapping
from itertools import zip_longest

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

TEACHER, STUDENT, LOST = "cyan", "bold green", "grey42"
MEMORY = {
    "weights": "trained weights, fp32",
    "critics": "critics beside it, fp32",
    "optimizer": "optimizer state",
    "ema": "averaged weights (EMA)",
    "teacher": "teacher's denoiser",
    "frozen": "what else is frozen",
    "gradients": "gradients, fp32",
    "activations": "activations and features",
}
COSTS = {"gmacs": "GMACs", "gmacs_without_attention": "  without attention"}
LAYERS = {"resnets": "ResNets", "attentions": "attentions", "transformer_blocks": "transformer layers"}


def bar(part: float, whole: float, style: str, width: int = 11) -> Text:
    """`part` of `whole` as a bar with eighths of a character."""
    eighths = round(8 * width * part / whole) if whole else 0
    full, rest = divmod(eighths, 8)
    filled = "█" * full + ("", *"▏▎▍▌▋▊▉")[rest]
    return Text.assemble((filled, style), ("─" * (width - len(filled)), LOST))


def grid(*columns: str) -> Table:
    """An empty table with these columns: those named "" or " " are aligned left, as text, all others right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    for name in columns:
        table.add_column(name, justify="left" if name in ("", " ") else "right", no_wrap=True)
    return table


def size_table(figures: Mapping) -> Table:
    """A table of parameters, operations and layers of teacher and student, and the share that the student keeps."""
    teacher, student = figures["teacher"], figures["student"]
    table = grid("", figures["origin"], "student", "kept", " ")

    def row(label: str, whole: float, part: float, digits: str = ",.0f") -> None:
        share = f"{100 * part / whole:.0f} %" if whole else "–"
        texts = Text(f"{whole:{digits}}", TEACHER), Text(f"{part:{digits}}", STUDENT)
        table.add_row(label, *texts, share, bar(part, whole, STUDENT) if teacher["parameters"] < 1e10 else "")

    row("parameters", teacher["parameters"], student["parameters"])
    for label, whole in teacher["parts"].items():
        row(f"  {label.removesuffix('_blocks').replace('_', ' ')}", whole, student["parts"][label])
    table.add_section()
    for key, label in COSTS.items():
        row(label, teacher[key], student[key], ",.0f" if teacher[key] >= 10 else ".3g")
    if figures["critics"]:
        table.add_section()
    for name, size in figures["critics"].items():
        table.add_row(f"critic: {name.replace('_', ' ')}", "", Text(f"{size:,}", STUDENT), "", "")
    table.add_section()
    for kind, whole in teacher["layers"].items():
        label = kind.replace("_", " ")
        label = label if kind in teacher["parts"] else LAYERS.get(kind, label)  # a transformer's layers are its parts
        row(label, whole, student["layers"].get(kind, 0))
    return table


def layer_picture(figures: Mapping) -> Table:
    """One line a block, one character a layer: what stays and what goes."""
    table = Table.grid(padding=(0, 2))
    for block, layers in figures["kept"].items():
        line, before = Text(), None
        for name, kept in layers.items():
            owner = name.rsplit(".", 2)[0]
            resnet = ".resnets." in name
            if before is not None and (resnet or owner != before):
                line.append(" ")
            line.append("●" if resnet and kept else "■" if kept else "○" if resnet else "□", STUDENT if kept else LOST)
            before = owner
        table.add_row(block, line)
    resnets = any(".resnets." in name for layers in figures["kept"].values() for name in layers)
    kept = [("●", STUDENT), " ResNet  ", ("■", STUDENT), " transformer layer  "] if resnets else [("■", STUDENT), " block  "]
    table.add_row("", Text.assemble(*kept, ("○ □" if resnets else "□", LOST), " left out"))
    return table


def pair_lists(figures: Mapping) -> RenderableType:
    """Pairs of different names one a line, then those of the same name in two columns."""
    different, same = Table.grid(padding=(0, 1)), Table.grid(padding=(0, 4))
    for student, teacher in figures["pairs"]:
        if student != teacher:
            different.add_row(Text(student, STUDENT), Text("←", LOST), Text(teacher, TEACHER))
    names = [Text(student, LOST) for student, teacher in figures["pairs"] if student == teacher]
    half = -(-len(names) // 2)
    for left, right in zip_longest(names[:half], names[half:]):
        same.add_row(left, right)
    between = [Text("with the layer of the same name:", LOST)] if names else []
    return Group(different, *between, same)


def memory_table(figures: Mapping) -> Table:
    """A table of what is in memory at the peak of training and of the trained weights on disk, in GB of 10^9 bytes."""
    memory = figures["memory"]
    table = grid("", "GB", " ")
    for key, label in MEMORY.items():
        value = memory[key]
        if value is None:
            table.add_row(label, "unknown", "")
        elif value:
            style = TEACHER if key in ("teacher", "frozen") else STUDENT
            table.add_row(label, f"{value / 1e9:.2f}", bar(value, memory["total"], style))
    table.add_section()
    table.add_row("in all", Text(f"{memory['total'] / 1e9:.2f}", "bold"), "")
    disk = figures["disk"]
    table.add_row("trained weights on disk", f"{disk['float32'] / 1e9:.2f}", f"{disk['float16'] / 1e9:.2f} in fp16")
    return table


def cache_line(figures: Mapping) -> Text:
    """What a cache of the training data would take on the disk."""
    cache = figures["cache"]
    if cache is None:
        return Text()
    each = f"{cache['picture'] / 1e6:.3g} MB a picture and {cache['caption'] / 1e6:.3g} MB a caption"
    rows = "" if cache["rows"] is None else f"; {cache['total'] / 1e9:.3g} GB at most for {cache['rows']:,} pictures"
    return Text(f"a cache of the data: {each}{rows}\n", LOST)


def fit_table(figures: Mapping) -> Table:
    """Lines that save memory with the GB that each saves by itself, and the fewest that make the training fit a GPU."""
    fits = figures["fits"]
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for line, saved in fits["savers"].items():
        table.add_row(f"-{max(saved, 0) / 1e9:.2f}", line.replace(" ", "\n"))
    table.add_row("", "")
    for size, chosen in fits["gpus"].items():
        least = f"too small; all of them leave {fits['least'] / 1e9:.2f} GB"
        text = least if chosen is None else "\n".join(chosen).replace(" ", "\n") or "as it is"
        table.add_row(f"{size} GB", Text(text, LOST if chosen is None else STUDENT))
    return table


def quantized_line(figures: Mapping) -> str:
    """How many bits the student's weights have, with the end of the line; "" for whole ones."""
    found, whole = figures["quantized"], figures["student"]["parameters"]
    if found is None:
        return ""
    bits = "1 bit" if found["bits"] == 1 else f"{found['bits']} bits"
    inputs = ", as their inputs in linear layers" if found["activations"] else ""
    return f"         {bits} in {found['layers']} layers, {100 * found['parameters'] / whole:.0f} % of its weights{inputs}\n"


def print_summary(figures: Mapping, title: str, console: Console | None = None) -> None:
    """Print `figures` of `summary.summarize`."""
    console = console or Console(highlight=False)
    start = figures["student"]["checkpoint"] or f"the {figures['origin']}'s layers"
    head = Text.assemble(
        (f"{figures['origin']}  ", "bold"), (figures["teacher"]["checkpoint"], TEACHER), "\n",
        ("student  ", "bold"), (f"first weights: {start}", STUDENT), "\n",
        (quantized_line(figures), STUDENT),
        (f"a GMAC count is one call with batch 1 on {figures['latent_size']} × {figures['latent_size']} latents", LOST),
    )  # fmt: skip
    count = len(figures["pairs"])
    sections = [
        head,
        size_table(figures),
        Text("layers\n", "bold"),
        layer_picture(figures),
        Text(f"\n{count} feature pairs, student ← teacher\n" if count else "", "bold"),
        pair_lists(figures) if count else Text("no loss compares features", LOST),
        Text(f"\ntraining memory, {figures['trainable_parameters']:,} trainable parameters", "bold"),
        memory_table(figures),
        cache_line(figures),
        Text("\nwhat saves memory, in GB, and the least of it that fits a GPU\n", "bold"),
        fit_table(figures),
    ]
    panel = Panel(
        Group(*sections), title=f"[bold]{title}", box=box.ROUNDED, padding=(1, 2, 0, 2), width=min(console.width, 88)
    )
    console.print(panel)
