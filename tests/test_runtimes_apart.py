"""Tests that compute with ONNX Runtime and OpenVINO, in a process of their own.

Where OpenVINO and NNCF have computed, a later signal of an ended child, as a loader's workers send it, may end the
process by a segmentation fault. Commands that use a runtime end without such children.
"""

import os
import subprocess
import sys
from pathlib import Path

import apart
import pytest

TESTS = Path(__file__).parent


@pytest.mark.processes
@pytest.mark.parametrize("file", apart.FILES)
def test_runtimes_in_a_process_of_their_own(file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS / file]
    env = os.environ | {"RUNTIMES_APART": "1", "PYTEST_ADDOPTS": ""}
    ended = subprocess.run(command, env=env, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout
