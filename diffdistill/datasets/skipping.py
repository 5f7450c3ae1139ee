"""Samples that cannot be used: what is noted of each, and how many of them a data set may skip."""

import json
from collections.abc import Sequence

from diffdistill.errors import InputError, shortened, warn_once

NAMED = 10  # samples that a warning names; it counts all


class BadSampleError(ValueError):
    """A row of the data set `source` that cannot be used; `record` has the entries of a line of `skipped.jsonl`."""

    def __init__(self, source: str, row: int, file: str | None, reason: str):
        self.record = dict(source=source, row=row, file=file, reason=reason)
        super().__init__(f"{sample_name(row, file)}: {reason}")


def sample_name(row: int, file: str | None) -> str:
    """What messages and batches call a sample: "row 17 (a.png)", or "row 17" where its picture is in the table."""
    return f"row {row}" + (f" ({shortened(file)})" if file else "")


def lines_of(skipped: Sequence[BadSampleError]) -> str:
    """The records of skipped samples as JSON lines: text, which every collate function passes on as it is; "" for none."""
    return "".join(json.dumps(sample.record) + "\n" for sample in skipped)


def most_skipped(share: float, samples: int) -> int:
    """How many of `samples` may be skipped: that share of them, but one at least; none where the share is 0.

    Raises InputError for a share that is none.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InputError(f"max_skipped={share!r} is no share of the samples; use a number from 0 to 1")
    return max(1, int(share * samples)) if share else 0


def too_many(source: str, skipped: int, samples: int | None, share: float, last: str, listed: str = "") -> InputError:
    """The error of a set of which more was skipped than its `max_skipped` allows; `last` names a sample and says why.

    None for `samples` is a stream, of which nobody knows how many there are.
    """
    if samples is None:
        return InputError(
            f"{source}: {last}; {skipped:,} samples of the stream cannot be used, and max_skipped={share:g} of the data set"
            f" allows fewer by now: mend them, or raise it{listed}"
        )
    if skipped == samples:
        return InputError(f"{source}: {last}; none of the {samples:,} samples can be used{listed}")
    return InputError(
        f"{source}: {last}; {skipped:,} of {samples:,} samples cannot be used, and max_skipped={share:g} of the data set"
        f" allows fewer: mend them, or raise it{listed}"
    )


def warn_of_left_out(source: str, samples: int, problems: Sequence[BadSampleError | None]) -> None:
    """Warn of what is left out of the `samples` of a set that is looked through as a whole.

    Raises InputError where nothing is left.
    """
    left_out = [problem for problem in problems if problem is not None]
    listed = "; ".join(map(str, left_out[:NAMED])) + ("; ..." if len(left_out) > NAMED else "")
    if len(left_out) == samples:
        raise InputError(f"{source}: none of the {samples} pictures can be used: {listed}")
    if left_out:
        warn_once(f"{source}: {len(left_out)} of {samples} pictures cannot be used and are left out: {listed}")


def count_samples(dataset) -> int | None:
    """How many samples a data set has; None of a stream, of which nobody knows."""
    return None if getattr(dataset, "streamed", False) else len(dataset)
