"""The layers of the house (CONTRIBUTING.md): a file imports from the floors below its own, and never from one above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "diffdistill"
GROUND = ["errors", "noise", "step", "denoisers", "student", "features", "shapes"]
FLOORS = [
    GROUND,
    ["registry"],
    ["losses", "families", "methods", "datasets"],
    ["frozen", "adapters", "model", "distiller", "finetuner", "engine"],
]
TOP = len(FLOORS)  # where everything else stands
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if ".mim" not in path.parts)


def floor(part: str) -> int:
    return next((number for number, parts in enumerate(FLOORS) if part in parts), TOP)


def imported_parts(source: str) -> set[str]:
    """The modules and folders of the package that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    parts = {tuple(name.split(".")) for name in names}
    return {part[1] for part in parts if part[0] == "diffdistill" and len(part) > 1 and part[1] != "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_below(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    parts = imported_parts(path.read_text(encoding="utf-8")) - {own}
    assert not {part for part in parts if floor(part) > floor(own)}
    if own in FLOORS[2]:  # the axes of a config know nothing of each other
        assert not parts & set(FLOORS[2])


def test_every_floor_is_there():
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert {part for parts in FLOORS for part in parts} <= found


def test_the_ground_floor_works_without_mmengine():
    """So that students, pairs and noise can be used from any training loop."""
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES]
    ground = [name for name in modules if name.split(".")[1] in GROUND]
    script = (
        "import importlib, sys\n"
        "sys.modules['mmengine'] = None  # importing it now fails\n"
        f"for name in {ground}:\n"
        "    importlib.import_module(name)\n"
        "from diffdistill.student import plan_student\n"
        "from diffusers import UNet2DConditionModel\n"
        "keep = {'mid_block.attentions': [], 'mid_block.resnets': [0]}\n"
        "print(plan_student(UNet2DConditionModel, {}, keep)[0]['mid_block_type'])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "UNetMidBlock2D"
