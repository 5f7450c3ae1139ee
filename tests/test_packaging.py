"""What packaging promises and what is cheap to check; `.ci/run` builds and installs the wheel."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mim.commands.search import convert2df
from modelindex.load_model_index import load

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "diffdistill"
TOOLS = sorted((ROOT / "tools").glob("*.py"))
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts)
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def python_files(folder: Path) -> list[Path]:
    """The Python files below `folder`, without those that `.mim` links to."""
    return [path for path in folder.rglob("*.py") if ".mim" not in path.parts]


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports when it is loaded, so not those inside its functions."""
    names = set()
    statements = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while statements:
        statement = statements.pop()
        if isinstance(statement, ast.Import):
            names.update(alias.name.split(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            names.add((statement.module or "").split(".")[0])
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            statements.extend(child for child in ast.walk(statement) if isinstance(child, ast.Import | ast.ImportFrom))
    return names


def test_a_base_name_leads_to_one_config():
    """mim walks the whole package for the base name, so a config must not share it with a module or a tool either."""
    names = Counter(path.name for path in [*CONFIGS, *TOOLS, *python_files(PACKAGE)] if path.name != "__init__.py")
    assert not {path.name for path in CONFIGS if names[path.name] > 1}


def test_every_folder_of_modules_is_a_package():
    """A folder without `__init__.py` works from a checkout and is missing from the wheel."""
    folders = {path.parent for path in python_files(PACKAGE)}
    assert not {str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()}


def test_setup_imports_nothing_that_build_isolation_lacks():
    assert imported(ROOT / "setup.py") <= sys.stdlib_module_names | {"setuptools"}


def test_version_is_a_literal():
    """setuptools then reads it without importing the package, whose dependencies a build does not have."""
    module = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    values = [node.value for node in module.body if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", ast.literal_eval(values[0]))


def test_links_for_mim_are_neither_tracked_nor_distributed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    ignored = subprocess.run(["git", "check-ignore", "-q", "diffdistill/.mim/"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    assert "prune diffdistill/.mim" in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()


def test_source_distribution_holds_what_the_wheel_is_built_from():
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split()
    for_mim = ast.literal_eval(re.search(r"FOR_MIM = (\[.*\])", (ROOT / "setup.py").read_text(encoding="utf-8"))[1])
    assert set(for_mim) <= set(lines)
    assert not [name for name in for_mim if not (ROOT / name).exists()]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.name)
@pytest.mark.processes
def test_tool_explains_itself_without_heavy_imports(tool):
    """mim asks the training script for its help before every run."""
    heavy = ["torch", "diffusers", "transformers", "datasets", "peft", "mmengine", "cv2"]
    script = (
        "import runpy, sys\n"
        f"sys.argv = [{tool.name!r}, '-h']\n"
        "try:\n"
        f"    runpy.run_path({str(tool)!r}, run_name='__main__')\n"
        "finally:\n"
        f"    print('HEAVY', [name for name in {heavy} if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout
    assert "HEAVY []" in run.stdout


def test_no_tool_hides_a_standard_module():
    """Python puts the folder of a script first on the path: `tools/profile.py` would break `import torch`."""
    assert not {tool.stem for tool in TOOLS} & sys.stdlib_module_names


def test_model_index_names_existing_configs():
    index = load(str(ROOT / "model-index.yml"))
    assert len(convert2df(index)) == len(list(index.models)) > 0
    assert not [model.config for model in index.models if not (ROOT / model.config).is_file()]


def test_pre_commit_runs_the_ruff_that_ci_runs():
    required = re.search(r'^required-version = "==(.*)"$', PYPROJECT, re.MULTILINE)[1]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["rev"] for repo in hooks if repo["repo"].endswith("ruff-pre-commit")] == [f"v{required}"]
