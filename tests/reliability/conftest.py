"""What the trials were, for the table in docs/results/reliability.md."""

from collections import Counter

import pytest

TRIALS = pytest.StashKey[list]()


@pytest.fixture(scope="session")
def trials(request) -> list[dict]:
    """One record for every trial: the `kind` of run, `kills` (the operations it was killed at) and `differ`."""
    return request.config.stash.setdefault(TRIALS, [])


def pytest_terminal_summary(terminalreporter, config) -> None:
    trials = config.stash.get(TRIALS, [])
    if not trials:
        return
    terminalreporter.section("kills")
    for kind in dict.fromkeys(trial["kind"] for trial in trials):
        found = [trial for trial in trials if trial["kind"] == kind]
        kills = Counter(place for trial in found for place in trial["kills"])
        differ = sum(trial["differ"] for trial in found)
        terminalreporter.write_line(f"{kind}: {len(found)} runs, {kills.total()} kills, {differ} tensors differ")
        for place, count in kills.most_common():
            terminalreporter.write_line(f"{count:5d}  {place}")
