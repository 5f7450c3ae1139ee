"""Train configs over seeds and compare what their validation says."""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from diffdistill.config.read import config_root, find_config
from diffdistill.errors import InputError
from diffdistill.files import read_json
from diffdistill.metrics.protocol import check_same, split
from diffdistill.metrics.record import Role, role_of


def run_all(configs: Sequence[str], seeds: Sequence[int], options: Sequence[str], folder: str) -> list[dict]:
    """Train every config with every seed, one after the other, in processes of their own; returns their `results.json`.

    A run that has finished is not run again: remove its folder for that.
    """
    results = []
    for name in configs:
        config = find_config(name)
        for seed in seeds:
            run = Path(folder, f"{config.stem}_seed{seed}")
            if not has_results(run):
                train = config_root().parent / "tools" / "train.py"
                arguments = [config, "--work-dir", run, "--cfg-options", f"randomness.seed={seed}", *options]
                run.mkdir(parents=True, exist_ok=True)
                with (run / "log.txt").open("w") as log:
                    code = subprocess.call([sys.executable, train, *arguments], stdout=log, stderr=subprocess.STDOUT)
                if code:
                    raise InputError(f"{config.name} with seed {seed} ended with status {code}; see {run / 'log.txt'}")
            results.append(read_json(run / "results.json") | dict(config=config.stem))
    return results


def has_results(run: Path) -> bool:
    """Whether a run has left its `results.json`; a damaged one counts for nothing."""
    try:
        return bool(read_json(run / "results.json"))
    except InputError:
        return False


def accuracy_table(results: Sequence[dict], metric: str = "accuracy") -> list[dict]:
    """One row a config: teacher, untrained and trained student, in percent, the last one for every seed.

    Rows of one `protocol` stand together; a config whose runs were measured by several has a row for each.
    """
    groups = split(results, lambda result: check_same(result["validation"], metric))
    return [row for protocol, members in groups for row in rows_of(members, metric, protocol)]


def rows_of(results: Sequence[dict], metric: str, protocol: dict) -> list[dict]:
    """The rows of `accuracy_table`, one a config, for runs that were all measured by `protocol`."""
    rows: dict[str, dict] = {}
    for result in results:
        records = result["validation"]
        row = rows.setdefault(result["config"], dict(config=result["config"], steps=result["steps"], teacher=None, seeds={}))
        row["protocol"] = protocol
        row["parameters"] = result["student"]["parameters"]
        for record in records:
            if (role := role_of(record)) is not Role.TRAINED:
                row[role.value] = record[metric]
        row["seeds"][result["seed"]] = records[-1][metric]
        row["n"] = int(records[-1]["n"])
        row["seconds_per_step"] = result["seconds_per_step"]
    for row in rows.values():
        row["median"] = statistics.median(row["seeds"].values())
    return list(rows.values())
