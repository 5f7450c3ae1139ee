"""A pipe whose reader has gone, as with `| head`: by real processes with real pipes."""

import os

import pytest
import runs

from diffdistill.command import UNREAD, command, parse_options
from diffdistill.errors import InputError


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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 0.001),
        ("true", True),
        ("None", None),
        ("", ""),
        ("a red cat", "a red cat"),
        ("/data/my pics", "/data/my pics"),
        ("'a cat, sitting'", "a cat, sitting"),
        ("'1'", "1"),
        (":(", ":("),
        ("x=1", "x=1"),
        ("[a red cat, a dog's life]", ["a red cat", "a dog's life"]),
        ('["a cat, sitting", b]', ["a cat, sitting", "b"]),
        ("1,2,3", [1, 2, 3]),
        ("(0.9,0.99)", (0.9, 0.99)),
        ("[(1,2),[a,b],c]", [(1, 2), ["a", "b"], "c"]),
        ("[a (b), c]", ["a (b)", "c"]),
        ("[]", []),
        ("{'*_blocks.*': [0, 2]}", {"*_blocks.*": [0, 2]}),
        ("[{'type': 'X', 'p': 1}]", [{"type": "X", "p": 1}]),
    ],
)
def test_options_are_read_as_they_are_written(text, value):
    assert parse_options([f"a.b={text}"]) == {"a.b": value}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("dict(type=A,b=1)", "a.b=1"),
        ("{type=A,b=1}", "a.b=1"),
        ("[dict(type=A,b=1)]", "a.b=1"),
        ("[1,(2]", "brackets"),
        ("['a, b]", "quotes"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(text, part):
    with pytest.raises(InputError) as error:
        parse_options([f"x={text}"])
    assert f"--cfg-options x={text}" in str(error.value)
    assert part in str(error.value)
