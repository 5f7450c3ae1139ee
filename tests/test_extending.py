"""The files of docs/extending.md, written out as they stand there, train in a folder outside the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import runs

PAGE = (runs.ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
TINY = runs.options(
    train_cfg__max_iters=2,
    train_cfg__val_interval=100,
    train_dataloader__batch_size=2,
    val_dataloader__dataset__length=2,
    model__sampling__num_inference_steps=1,
    default_hooks__logger__interval=1,
    default_hooks__samples=None,
)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_example_trains(folder):
    path = os.pathsep.join([str(folder), str(runs.ROOT)])
    ended = runs.finish(runs.start("train", "my_student.py", *TINY, cwd=folder, PYTHONPATH=path))
    assert ended.code == 0, ended
    log = ended.out + ended.err
    assert set(re.findall(r"\bloss_(\w+):", log)) == {"task", "output", "feature"}
    parameters = re.search(r"Student \(([\d,]+) parameters\)", log)[1]
    assert f"here {parameters} of the teacher's" in PAGE
    assert (folder / "work_dirs" / "my_student" / "unet" / "config.json").exists()


def test_the_test_of_the_example_passes(folder):
    """In a process of its own, as the classes that it registers would stay in this one."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(runs.ROOT)])}
    command = [sys.executable, "-c", "import test_my_parts as t; t.test_only_the_direction_of_features_counts()"]
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


def test_a_module_that_is_not_found_is_one_line(folder):
    ended = runs.tool("summary", folder / "my_student.py")
    assert ended.code == 2
    assert "my_parts" in ended.err
    assert "Traceback" not in ended.err
