"""Checkpoints that load safely. Whole resumed runs: tests/runs/test_train.py."""

import numpy as np
import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.hooks.resume import check_weights, plain


def test_plain_values_load_safely(tmp_path):
    value = {"eta": np.float64(1.5), "rows": [(np.int64(2), "x")], "weights": torch.ones(2)}
    torch.save(plain(value), tmp_path / "file.pth")
    loaded = torch.load(tmp_path / "file.pth", weights_only=True)
    assert loaded["eta"] == 1.5
    assert loaded["rows"] == [[2, "x"]]
    assert torch.equal(loaded["weights"], torch.ones(2))


@pytest.mark.parametrize("found", [{}, {"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(3)}])
def test_weights_of_another_student_are_refused(found):
    with pytest.raises(InputError, match=r"x\.pth is not a checkpoint of this config's student: [ab] is"):
        check_weights(found, {"a": torch.ones(2)}, "x.pth")
