"""Whatever is public says what it is; read from the source, so that nothing is imported."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for path in (ROOT / "diffdistill").rglob("*.py") if ".mim" not in path.parts)
TOOLS = sorted((ROOT / "tools").glob("*.py"))
KINDS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Only people and tables give; a function returns.
GIVES = re.compile(r"(?:^|[.;:,]\s+|\band\s+)gives\b", re.IGNORECASE | re.MULTILINE)
OF_TOOLS = {"main", "parse_args", "parser"}
# Methods that MMEngine and torch document: (name of their class) -> names. Of hooks all that is called at a point of a run.
OF_LIBRARIES = {
    "BaseMetric": r"process|compute_metrics|evaluate",
    "BaseModel": r"forward|train",
    "CheckpointHook": r"(before|after)_\w+",
    "EMAHook": r"(before|after)_\w+",
    "Hook": r"(before|after)_\w+",
    "Module": r"forward|train",
    "OptimWrapper": r"optim_context|backward|step|state_dict|load_state_dict",
}


def name_of(base: ast.expr) -> str:
    """The last part of a class's name: "Module" of `nn.Module`."""
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def members(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions and classes at the top of `node`; the setter of a property is the property once more."""
    for each in node.body:
        if not isinstance(each, KINDS) or each.name.startswith("_"):
            continue
        if not any(name_of(decorator) in ("setter", "deleter") for decorator in each.decorator_list):
            yield each


TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES + TOOLS}
CLASSES = [(path, node) for path in FILES for node in TREES[path].body if isinstance(node, ast.ClassDef)]


def bases(path: Path, kind: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef | None]]:
    """The bases of a class and theirs, by name; None for those of libraries. A base is of this file, or imported from us."""
    for base in map(name_of, kind.bases):
        named = [(place, node) for place, node in CLASSES if node.name == base and node is not kind]
        place, found = next(((place, node) for place, node in named if place == path), named[0] if named else (path, None))
        yield base, found
        if found is not None:
            yield from bases(place, found)


def is_documented_above(path: Path, kind: ast.ClassDef, method: str) -> bool:
    for name, base in bases(path, kind):
        if base is None and re.fullmatch(OF_LIBRARIES.get(name, "(?!)"), method):
            return True
        if base is not None and any(each.name == method and ast.get_docstring(each) for each in members(base)):
            return True
    return False


def must_say(path: Path, tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """What must have a docstring of its own, by name."""
    yield "the module", tree
    for node in members(tree):
        if path not in TOOLS or node.name not in OF_TOOLS:
            yield node.name, node
        for method in members(node) if isinstance(node, ast.ClassDef) else ():
            if not is_documented_above(path, node, method.name):
                yield f"{node.name}.{method.name}", method


def undocumented(path: Path, tree: ast.Module) -> list[str]:
    return [name for name, node in must_say(path, tree) if not ast.get_docstring(node)]


@pytest.mark.parametrize("path", TREES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_public_has_a_docstring(path):
    assert undocumented(path, TREES[path]) == []


@pytest.mark.parametrize("path", TREES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_returns_and_does_not_give(path):
    texts = [ast.get_docstring(node) or "" for node in ast.walk(TREES[path]) if isinstance(node, (ast.Module, *KINDS))]
    assert [text for text in texts if GIVES.search(text)] == []


def test_what_has_no_docstring_is_found():
    """Or all of this could pass on nothing. An override of a method that its base documents needs none of its own."""
    path = ROOT / "diffdistill" / "losses" / "distillation.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *KINDS)) and ast.get_docstring(node):
            node.body = node.body[1:]
    of_features = ["FeatureKD", "FeatureKD.distance", "FeatureKD.inliers"]
    assert undocumented(path, tree) == ["the module", "OutputKD", "PriorKD", *of_features, "mean_of"]


@pytest.mark.parametrize("text", ["Write it; gives the folder.", "Gives the plan.", "Read it and gives its lines."])
def test_what_gives_is_found(text):
    assert GIVES.search(text)
