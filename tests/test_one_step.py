"""docs/one_step.md walks the path that a training really takes."""

import ast
import re
import sys
from pathlib import Path

import runs

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "one_step.md").read_text(encoding="utf-8")
# "[file](../file): `function`"
STOPS = re.findall(r"^\| \[([\w/]+\.py)\]\(\.\./\1\): `([\w.]+)`", PAGE, re.MULTILINE)


def defined(path: Path) -> set[str]:
    """The functions and classes of a file: "name", and "Class.name"."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
    return names


def test_five_files_lead_to_the_feature_loss():
    files = re.findall(r"^\d\. \[([\w./]+)\]\(\.\./\1\)", PAGE, re.MULTILINE)
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    assert len(files) == 5
    # Each of the first four names the next one, by its path or as a module; the last step is the config's `type`.
    for text, following in zip(texts, files[1:4], strict=False):
        assert following in text or f"from {following.removesuffix('.py').replace('/', '.')} import" in text
    assert "loss(step) for name, loss in self.losses.items()" in texts[3]
    assert "FeatureKD.score" in defined(ROOT / files[4])


def test_every_stop_exists():
    assert len(STOPS) > 25
    assert not [(file, name) for file, name in STOPS if name not in defined(ROOT / file)]


def test_a_training_passes_the_stops_in_their_order(tmp_path):
    functions = [(str(ROOT / file), name) for file, name in STOPS if not name[0].isupper() or "." in name]
    watched = {file for file, _ in functions}
    calls = []

    def note(frame, event, argument):
        """A trace function: python calls it for every call of a function. It returns None, so no lines are traced."""
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file in watched:
            owner = frame.f_locals.get("self", frame.f_locals.get("cls"))
            kinds = (owner if isinstance(owner, type) else type(owner)).__mro__
            calls.append({(file, name), *((file, f"{kind.__name__}.{name}") for kind in kinds)})

    quick = runs.shapes("diffdistill::sdxl_shapes", train_cfg__max_iters=1)
    quick |= dict.fromkeys((f"default_hooks__{name}" for name in ("baseline", "samples", "report")), None)
    del quick["default_hooks__samples__prompts"]
    before = sys.gettrace()
    sys.settrace(note)
    try:
        runs.trained(runs.SHAPES, tmp_path, quick)
    finally:
        sys.settrace(before)
    calls = iter(calls)
    missed = [stop for stop in functions if not any(stop in names for names in calls)]  # `any` goes on where it has stopped
    assert not missed


def test_the_snippet_prints_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, output = re.search(
        r"^```python\n(.*?)^```\n\nIt prints\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    ).groups()
    exec(compile(code, "docs/one_step.md", "exec"), {})
    assert capsys.readouterr().out == output
