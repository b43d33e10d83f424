"""The benchmark of few columns: its table is made of kernels that were held against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.few_columns import main, must, weight_of
from tesa.targets.target import parse_target, runs_here


@pytest.mark.parametrize(("bits", "low", "high"), [(4, -8, 7), (8, -128, 127)])
def test_weights(bits: int, low: int, high: int) -> None:
    weight = weight_of(64, 0.75, bits)
    assert (weight.min(), weight.max()) == (low, high)
    assert abs((weight == 0).mean() - 0.75) < 0.02
    assert must(weight, bits) == np.count_nonzero(weight) * bits / 8 + 512


@pytest.mark.slow
@pytest.mark.skipif(not runs_here(parse_target("x86:icelake-server")), reason="this machine's CPU expands no bytes")
def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--size", "128", "--zeros", "0.9", "--copies", "2", "--families", "bitmap"])
    _, _, row = capsys.readouterr().out.strip().splitlines()
    assert [cell.strip() for cell in row.split("|")][1:5] == ["8", "90%", "1", "bitmap"]
