"""Two ranks on the CPU, started by torchrun as users do."""

import json

import pytest
import runs

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def run(thin_sdxl, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "two_ranks.py").write_text(
        f'_base_ = ["{runs.ROOT}/configs/shapes/small_sd_xl_shapes.py"]\n'
        'custom_imports = dict(imports=["diffdistill.engine", "probe"])\n'
        'custom_hooks = [dict(type="Probe")]\n'
    )
    options = runs.shapes(
        thin_sdxl, **runs.EMA, train_cfg__val_interval=1, default_hooks__samples__interval=1, **runs.SAMPLES
    )
    ended = runs.finish(
        runs.start(
            "train",
            folder / "two_ranks.py",
            *("--launcher", "pytorch", "--work-dir", folder / "run"),
            *runs.options(**options),
            launcher=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            PYTHONPATH=f"{runs.ROOT}:{runs.ROOT}/tests/helpers",
        )
    )
    assert ended.code == 0, ended
    ended.work_dir = folder / "run"
    return ended


def test_ranks_see_different_pictures_and_noise_and_keep_the_same_weights(run):
    ranks = [json.loads((run.work_dir / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert len(ranks[0]["losses"]) == 2
    assert ranks[0]["losses"] == ranks[1]["losses"]  # as they are logged: averaged
    assert not set(ranks[0]["seeds"]) & set(ranks[1]["seeds"])
    assert ranks[0]["captions"] != ranks[1]["captions"]
    assert ranks[0]["weights"] == ranks[1]["weights"]


def test_one_rank_writes_what_both_have_done(run):
    results = json.loads((run.work_dir / "results.json").read_text())
    assert results["batch_size"] == 4
    assert results["ema"]
    assert [(record["model"], record["step"]) for record in results["validation"]] == [
        ("teacher", 0),
        ("student", 0),
        ("student", 1),
        ("student", 2),
    ]
    assert {record["n"] for record in results["validation"]} == {2.0}  # each caption counts once, whichever rank drew it
    assert {path.name for path in (run.work_dir / "samples").iterdir()} == {"step_1.png", "step_2.png"}
    assert run.out.count("from_pretrained(") == 1


def test_ranks_end_without_complaint(run):
    assert "Traceback" not in run.err
    assert "destroy_process_group" not in run.err
