"""Fixtures of the whole suite: tiny pipelines and pictures on disk, no network, one thread."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# All are read when the libraries are imported, so they come first. A default thread pool on contended cores makes
# the first forward pass a hundred times slower.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="diffdistill-tests-")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # as the tools do where stderr is no terminal
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
sys.path.insert(0, str(Path(__file__).parent / "helpers"))  # for `import tiny`

import pytest
import runs
import tiny
import tiny_transformers
import torch
import warm

torch.set_num_threads(1)
# A suite that a shell started in the background ignores Ctrl-C, and so would the processes of its tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    keep_what_is_left()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem) -> None:
    if nextitem is not None and nextitem.path != item.path:
        keep_what_is_left()


def keep_what_is_left() -> None:
    """What modules import and what tests share stays: collecting garbage would look through it each time, for seconds."""
    gc.collect()
    gc.freeze()


SECONDS, TESTS = Counter(), Counter()  # by file


def cpu_seconds() -> float:
    """The processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4]) + warm.WarmProcess.cpu_seconds


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item) -> Iterator[None]:
    """Note the processor time of a test; what a shared fixture takes counts for the first test that asks for it."""
    item.user_properties.append(("began", cpu_seconds()))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "teardown":
        report.user_properties.append(("ended", cpu_seconds()))
    return report


def pytest_runtest_logreport(report) -> None:
    """Add them up where the summary is written; tests may run in other processes (pytest-xdist)."""
    if report.when == "teardown":
        times, file = dict(report.user_properties), report.nodeid.partition("::")[0]
        SECONDS[file] += times["ended"] - times["began"]
        TESTS[file] += 1


def pytest_terminal_summary(terminalreporter) -> None:
    terminalreporter.section(f"slowest files, of {SECONDS.total():.0f} s of processor time")
    for file, seconds in SECONDS.most_common(10):
        terminalreporter.write_line(f"{seconds:7.1f} s  {TESTS[file]:4d} tests  {file}")


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory) -> Path:
    """Folder of a `StableDiffusionXLPipeline` with SDXL's true topology, 32-pixel pictures, epsilon prediction."""
    return tiny.write_sdxl(tmp_path_factory.mktemp("pipelines") / "sdxl")


@pytest.fixture(scope="session")
def thin_sdxl(tmp_path_factory) -> Path:
    """As `tiny_sdxl`, with one transformer layer in an attention (11, not 70): for cuts that keep all or none of them."""
    return tiny.write_sdxl(tmp_path_factory.mktemp("thin") / "sdxl", transformer_layers_per_block=1)


@pytest.fixture(scope="session")
def shallow_sdxl(tmp_path_factory) -> Path:
    """As `tiny_sdxl`, with a third of its layers: for what does not depend on them, such as a student without a cut."""
    folder = tmp_path_factory.mktemp("pipelines") / "shallow_sdxl"
    return tiny.write_sdxl(folder, layers_per_block=1, transformer_layers_per_block=1)


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """Folder of a `StableDiffusionPipeline` with SD 1.x's true topology, 32-pixel pictures, epsilon prediction."""
    return tiny.write_sd(tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="session")
def tiny_sd_v(tmp_path_factory) -> Path:
    """Folder of a `StableDiffusionPipeline` with SD 2.x's true topology, 32-pixel pictures, v prediction."""
    return tiny.write_sd_v(tmp_path_factory.mktemp("pipelines") / "sd_v")


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory) -> Path:
    """Folder of a `StableDiffusion3Pipeline` of four blocks without T5, 32-pixel pictures, flow matching."""
    return tiny_transformers.write_sd3(tmp_path_factory.mktemp("pipelines") / "sd3")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    """Folder of a `CLIPModel` with its processors."""
    return tiny.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory) -> Path:
    """Folder of a `Dinov2Model` with its image processor."""
    return tiny.write_dino(tmp_path_factory.mktemp("models") / "dino")


@pytest.fixture(scope="session")
def captioned_folder(tmp_path_factory) -> Path:
    """Folder of twelve captioned pictures of different sizes and kinds with `metadata.csv` (file_name, text, score)."""
    return tiny.write_captioned_folder(tmp_path_factory.mktemp("data") / "captioned")


@pytest.fixture(scope="session")
def shapes_run(tmp_path_factory, thin_sdxl) -> runs.Ended:
    """The quick start, made tiny, with an EMA: six steps, with validation, samples and a checkpoint after three and six."""
    return runs.trained(
        runs.SHAPES,
        tmp_path_factory.mktemp("runs") / "shapes",
        runs.shapes(thin_sdxl, **runs.SIX_STEPS, **runs.SAMPLES, **runs.EMA),
    )


@pytest.fixture(scope="session")
def sd3_config(tmp_path_factory, tiny_sd3) -> Path:
    """A config that distils two of the four blocks of `tiny_sd3` on shapes in two steps."""
    return runs.write_sd3_config(tmp_path_factory.mktemp("configs") / "tiny_sd3_half.py", tiny_sd3)


@pytest.fixture(scope="session")
def sd3_run(tmp_path_factory, sd3_config) -> runs.Ended:
    """`sd3_config`, trained, with validation, samples and a checkpoint after each step."""
    return runs.trained(sd3_config, tmp_path_factory.mktemp("runs") / "sd3", {})


@pytest.fixture(scope="session")
def published_run(tmp_path_factory, tiny_sdxl, tiny_sd, captioned_folder) -> runs.Ended:
    """The published SSD-1B config on a folder of pictures, with a VAE of its own: two steps, then a resume to three."""
    work_dir = tmp_path_factory.mktemp("runs") / "published"
    prompts = "[a red circle,a blue square]"
    options = runs.published(
        tiny_sdxl, captioned_folder, model__teacher__vae=tiny_sd / "vae", default_hooks__samples__prompts=prompts
    )
    runs.trained(runs.PUBLISHED, work_dir, options)
    return runs.trained(runs.PUBLISHED, work_dir, options | {"train_cfg__max_iters": 3}, "--resume")
