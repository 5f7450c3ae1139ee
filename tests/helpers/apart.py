"""Test files that compute with ONNX Runtime and OpenVINO; `test_runtimes_apart.py` runs them, and says why."""

FILES = ["families/test_graphs.py", "families/test_runtimes.py", "benchmarks/test_runtimes.py"]
