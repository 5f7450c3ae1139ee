"""A pipe whose reader has gone, as with `| head`: by real processes with real pipes."""

import os

import pytest
import runs

from diffdistill.command import UNREAD, command


def ended_unread(name: str, *args) -> runs.Ended:
    """Run a tool whose output nobody reads."""
    process = runs.start(name, *args)
    process.stdout.close()
    err = process.stderr.read()
    return runs.Ended(process.wait(180), "", err)


@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("summary", ["--json", runs.SHAPES]),
        ("summary", [runs.SHAPES]),  # by rich, which has an answer of its own
        ("make_model_zoo", ["--out", os.devnull]),
    ],
    ids=str,
)
@pytest.mark.processes
def test_a_tool_that_nobody_reads_ends_quietly(tool, args):
    ended = ended_unread(tool, *args)
    assert (ended.code, ended.err) == (UNREAD, "")


@pytest.mark.processes
def test_a_training_that_nobody_reads_goes_on_without_a_word(thin_sdxl, tmp_path):
    options = runs.options(**runs.shapes(thin_sdxl))
    ended = ended_unread("train", runs.SHAPES, "--work-dir", tmp_path, *options)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert (tmp_path / "results.json").exists()
    assert "Iter(train) [2/2]" in next(tmp_path.glob("*/*.log")).read_text()


def test_another_broken_pipe_is_an_error():
    """Such as that to a worker which has died."""

    @command
    def main():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        main()
