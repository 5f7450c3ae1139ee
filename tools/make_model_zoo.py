"""Write MODEL_ZOO.md from model-index.yml and the metafiles it imports; no table in it is edited by hand."""

import argparse
from pathlib import Path

import yaml

from diffdistill.command import command

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Model zoo

Every run config, from the metafiles beside the configs (`tools/make_model_zoo.py` writes this page). Parameters are those of
the denoiser, exact. Scores are published ones where the column says so, for comparison: no weights of these runs are
distributed with this project. The same list on the command line: `mim search diffdistill`; what a config needs and does:
`mim run diffdistill summary CONFIG`.
"""


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown, columns of numbers aligned right."""
    aligned = ["---:" if name in ("parameters", "of the teacher") else "---" for name in header]
    return ["| " + " | ".join(cells) + " |" for cells in (header, aligned, *rows)]


def scores(model: dict) -> str:
    """Every result of a model as text, e.g. "COCO 30K (the paper's): FID 15.76, IS 33.79"."""
    return "; ".join(
        f"{result['Dataset']}: " + ", ".join(f"{name} {value}" for name, value in result["Metrics"].items())
        for result in model.get("Results", [])
    )


def section(collection: dict, models: list[dict]) -> list[str]:
    """The lines of one collection: its heading, its paper, and a table of its models."""
    lines = [f"## {collection['Name']}", ""]
    if paper := collection.get("Paper"):
        lines += [f"[{paper['Title']}]({paper['URL']})", ""]
    header, rows = ["config", "teacher", "parameters", "of the teacher", "trained on", "schedule", "scores"], []
    for model in models:
        data, results = model["Metadata"], scores(model)
        teacher, share = f"none, tunes {data.get('Base')}", "–"
        if "Teacher" in data:
            teacher, share = data["Teacher"], f"{100 * data['Parameters'] / data['Teacher Parameters']:.1f} %"
        name, parameters = f"[{model['Name']}]({model['Config']})", f"{data['Parameters']:,}"
        rows.append([name, teacher, parameters, share, data["Training Data"], data["Schedule"], results or "–"])
    return [*lines, *table(header, rows), ""]


def model_zoo() -> str:
    """The text of MODEL_ZOO.md."""
    lines = [HEAD]
    for file in yaml.safe_load((ROOT / "model-index.yml").read_text(encoding="utf-8"))["Import"]:
        metafile = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        for collection in metafile["Collections"]:
            models = [model for model in metafile["Models"] if model["In Collection"] == collection["Name"]]
            lines += section(collection, models)
    return "\n".join(lines).rstrip() + "\n"


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "MODEL_ZOO.md", help="file to write (default: %(default)s)")
    args = parser.parse_args()
    args.out.write_text(model_zoo(), encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
