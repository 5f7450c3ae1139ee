"""One denoiser in torch and in runtimes, side by side."""

import json

import runs

from diffdistill.benchmarks.runtimes import WAYS


def test_ways_side_by_side(tiny_sd, tmp_path):
    """All on the same inputs: the runtimes in fp32 compute what torch does, the others come near."""
    names = ["torch", "torch-bf16", "openvino", "openvino-bf16", "onnx", "onnx-int8"]
    options = ["--rounds", 1, "--warmup", 1, "--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv"]
    ended = runs.tool("benchmark", "runtimes", tiny_sd, "--ways", *names, *options)
    assert ended.code == 0, ended
    figures = json.loads((tmp_path / "f.json").read_text())
    rows = {row["way"]: row for row in figures["rows"]}
    assert list(rows) == names
    assert rows["torch"]["largest_difference"] == 0
    assert max(rows[name]["largest_difference"] for name in ("openvino", "onnx")) < 2e-5
    assert all(2e-5 < rows[name]["largest_difference"] < 0.2 for name in ("torch-bf16", "onnx-int8"))
    assert rows["torch"]["weight_bytes"] == 4 * figures["protocol"]["parameters"] == 2 * rows["torch-bf16"]["weight_bytes"]
    assert all(name in ended.out for name in names)
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 1 + len(names)


def test_an_unknown_way_is_one_line(tiny_sd):
    ended = runs.tool("benchmark", "runtimes", tiny_sd, "--ways", "torch", "tensorrt")
    runs.assert_one_line(ended, "--ways tensorrt: unknown; choose from torch,", *WAYS)


def test_a_pipeline_that_is_not_exported_is_one_line(tmp_path):
    import tiny_transformers

    folder = tiny_transformers.write_pixart(tmp_path / "pixart")
    ended = runs.tool("benchmark", "runtimes", folder, "--ways", "torch", "onnx")
    runs.assert_one_line(ended, "--runtime=onnx: a PixArtSigmaPipeline is not exported")
