"""Models in pieces over two ranks learn what whole ones do; whole runs of them are in tests/runs/test_distributed.py."""

import json

import pytest
import runs
import sharded
import tiny
import tiny_transformers

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """By kind of training, what differed between the whole and the sharded, each updated once on two ranks."""
    folder = tmp_path_factory.mktemp("sharded")
    tiny_transformers.write_sd3(folder / "sd3", num_layers=6)
    tiny.write_sdxl(folder / "sdxl", layers_per_block=1, transformer_layers_per_block=1)
    runs.two_ranks([sharded.__file__, str(folder), str(folder / "found.json")])
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("kind", [*sharded.KINDS, "accumulated whole"])
def test_pieces_learn_what_the_whole_does(found, kind):
    """After an update of two accumulated iterations on two ranks, clipped."""
    rounding = 1e-3 if kind == "bfloat16" else 1e-6
    assert found[kind]["moved"] > 100 * rounding or kind == "bfloat16"
    assert found[kind]["weights"] < rounding
    assert found[kind]["losses"] < rounding
    assert found[kind]["ranks"] == 0


@pytest.mark.parametrize("kind", sharded.KINDS)
def test_pieces_draw_what_the_whole_does(found, kind):
    """But for values that the last bits of the weights round to the next level."""
    assert found[kind]["pictures"] <= (16 if kind == "bfloat16" else 1)


@pytest.mark.parametrize("kind", sharded.KINDS)
def test_a_rank_holds_half(found, kind):
    """Of what is frozen, the VAE is whole on each; so is an adapter."""
    trained, frozen = found[kind]["shares"]
    assert trained == (1 if "adapter" in kind else pytest.approx(0.5, abs=0.01))
    assert 0.5 <= frozen < 0.75


@pytest.mark.parametrize("kind", sharded.KINDS)
def test_what_is_gathered_is_what_was_trained(found, kind):
    assert found[kind]["gathered"]
