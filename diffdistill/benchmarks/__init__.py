"""Measurements of runs, of training steps and of inference; `tools/benchmark.py` is their command line."""
