"""The documents say what is true of the files beside them."""

import json
import re
import runpy
from pathlib import Path

import pytest
import runs
import tiny
from diffusers import UNet2DConditionModel

import diffdistill
from diffdistill.families.known import known_families
from diffdistill.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in {"build", "dist"} for part in path.relative_to(ROOT).parts)
    and (path.name == "README.md" or path.relative_to(ROOT).parts[0] != "work_dirs")
)
CONFIGS = {path.name for path in (ROOT / "configs").rglob("*.py")}
TOOLS = {path.stem for path in (ROOT / "tools").glob("*.py")}


def commands(text: str) -> list[str]:
    """The lines of the `bash` blocks, continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_quick_start_is_two_commands_that_train_and_test():
    quick_start = runpy.run_path(str(ROOT / ".ci" / "readme_commands.py"))["quick_start"](README)
    assert len(quick_start) == 2
    train, test = quick_start
    assert "mim train diffdistill " in train
    assert "pytest" in test
    assert all(command.startswith("python3 -m venv .venv && ") for command in quick_start)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_name_configs_and_tools_that_exist(page):
    """Names in a command without a folder are looked up by mim; those with one belong to the reader, or are paths here."""
    missing = set()
    for command in commands(page.read_text(encoding="utf-8")):
        missing.update(set(re.findall(r"mim (?:train|test) diffdistill ([\w.]+\.py)", command)) - CONFIGS)
        missing.update(set(re.findall(r"mim run diffdistill (\w+)", command)) - TOOLS)
        missing.update(
            name for name in re.findall(r"\b(?:configs|tools)/[\w./]+\.py", command) if not (ROOT / name).exists()
        )
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_changelog_has_an_entry_for_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## .*\b{re.escape(diffdistill.__version__)}\b", changelog, re.MULTILINE)


def test_options_of_losses_and_noise_can_be_built_as_the_page_writes_them():
    page = (ROOT / "docs" / "losses_and_noise.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    parts = re.findall(r"dict\(type=[^`]*\)(?=`)", rows)
    assert len(parts) > 10
    for part in parts:
        MODELS.build(eval(part, {"dict": dict}))


def test_the_part_without_mmengine_is_short_and_runs(tmp_path, monkeypatch):
    section = re.search(r"^## Without MMEngine\n.*?^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for line in section[1].splitlines() if line]
    assert len(lines) <= 15
    monkeypatch.chdir(tmp_path)
    tiny.sd_unet().save_pretrained("sd_15/unet")
    names = {}
    exec(compile(section[1], "README.md", "exec"), names)
    assert len(names["pairs"]) == len(names["of_student"]) > 20
    assert names["loss"].requires_grad
    saved = UNet2DConditionModel.from_pretrained("my_student/unet").state_dict()
    assert saved.keys() == names["student"].state_dict().keys()


def test_memory_of_the_readme_is_that_of_summary():
    memory = json.loads(runs.tool("summary", runs.PUBLISHED, "--json").out)["memory"]
    section = README[README.index("## Distill SDXL to SSD-1B") :]
    for parts in (["total"], ["weights", "gradients", "optimizer"], ["teacher", "frozen"], ["activations"]):
        assert f"{sum(memory[part] for part in parts) / 1e9:.2f} GB" in section


def test_memory_of_transformers_is_that_of_summary():
    """Of the smallest; the page names the command beside its figures."""
    name = "pixart_sigma_14_distill_from_pixart_sigma_laion_pop.py"
    page = (ROOT / "docs" / "transformers.md").read_text(encoding="utf-8")
    memory = json.loads(runs.tool("summary", name, "--json").out)["memory"]
    parts = ["weights", "gradients", "optimizer"], ["teacher"], ["frozen"], ["activations"], ["total"]
    assert f"| `{name}` | {' | '.join(f'{sum(memory[part] for part in each) / 1e9:.2f}' for each in parts)} |" in page


def test_families_of_transformers_are_those_that_are_registered():
    page = (ROOT / "docs" / "transformers.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \| .* px \|$", page, re.MULTILINE)
    assert named == [name for name in named if MODELS.get(name)]
    found = {family.__name__ for family in known_families().values() if family.__module__.startswith("diffdistill.")}
    assert set(named) == {name for name in found if MODELS.get(name).denoiser_name == "transformer"}


def test_contributing_draws_the_floors_that_the_tests_check():
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`[^|]*) \|", contributing, re.MULTILINE)
    drawn = {room.rstrip("/"): int(number) for number, rooms in rows for room in re.findall(r"`([\w/]+)`", rooms)}
    floors = runpy.run_path(str(ROOT / "tests" / "test_layers.py"))["FLOORS"]
    assert drawn == {room: number for number, rooms in enumerate(floors) for room in rooms}


def test_modules_of_the_package_that_pages_name_exist():
    """But for the old names in the changelog's table."""
    missing = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"\b(?:from|import) (diffdistill(?:\.\w+)*)", text)
        names += re.findall(r"^\| `diffdistill\.[^|]*\| `(diffdistill\.[\w.]+)`", text, re.MULTILINE)
        paths = [ROOT / name.replace(".", "/") for name in names]
        paths += [ROOT / path for path in re.findall(r"`(diffdistill/[\w/]+(?:\.py)?)/?`", text)]
        missing.update(path for path in paths if not path.exists() and not path.with_suffix(".py").exists())
    assert not missing
