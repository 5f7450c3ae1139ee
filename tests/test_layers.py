"""The floors of the house (CONTRIBUTING.md): a room imports from the floors below its own, never beside or above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "diffdistill"
# The rooms, from the ground up. Those of the ground floor may import the ones named before them.
FLOORS = [
    ["errors", "files", "command", "noise", "step", "registry"],
    ["students", "shapes", "original"],
    ["losses", "families", "methods", "datasets"],
    ["models"],
    ["engine", "metrics"],
    ["config", "report"],
    ["runs"],
    ["sampling", "evaluation", "benchmarks"],
    ["hooks", "export", "search"],
]
GROUND, NEEDS_MMENGINE = FLOORS[0], "registry"
WITHOUT_MMENGINE = [room for room in GROUND + FLOORS[1] if room != NEEDS_MMENGINE]
FILES = sorted(path for path in PACKAGE.rglob("*.py") if ".mim" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imported_modules(path: Path) -> set[str]:
    """What a file imports of the package, at its top or inside a function: "students.cut.make_student" and the like."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found = {name.removeprefix("diffdistill.") for name in names if name.startswith("diffdistill.")}
    return found - {"__version__"}


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms == {room for rooms in FLOORS for room in rooms}
    assert len(FLOORS) <= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_below(path):
    own = room_of(path)
    for module in imported_modules(path):
        room = module.split(".")[0]
        below = GROUND.index(room) < GROUND.index(own) if {room, own} <= set(GROUND) else floor(room) < floor(own)
        assert room == own or below, f"{own} imports {module}"


def test_no_files_import_each_other():
    """Files of one room neither: they can be read from the top down."""
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in FILES}
    imported = {name: imported_modules(path) for name, path in names.items()}
    graph = {
        name: {other for other in names if any(f"{module}.".startswith(f"{other}.") for module in modules)}
        for name, modules in imported.items()
    }
    while leaves := [name for name, imports in graph.items() if not imports]:
        graph = {name: imports.difference(leaves) for name, imports in graph.items() if imports}
    assert not graph


def test_every_file_fits_a_sitting():
    assert {path.name: lines for path in FILES if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 250} == {}


@pytest.mark.processes
def test_students_work_without_mmengine():
    """So that students, pairs and noise can be used from any training loop."""
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES]
    ground = [name for name in modules if name.split(".")[1] in WITHOUT_MMENGINE]
    assert len(ground) > 10
    script = (
        "import importlib, sys\n"
        "sys.modules['mmengine'] = None  # importing it now fails\n"
        f"for name in {ground}:\n"
        "    importlib.import_module(name)\n"
        "from diffdistill.students.cut import plan_student\n"
        "from diffusers import UNet2DConditionModel\n"
        "keep = {'mid_block.attentions': [], 'mid_block.resnets': [0]}\n"
        "print(plan_student(UNet2DConditionModel, {}, keep)[0]['mid_block_type'])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "UNetMidBlock2D"
