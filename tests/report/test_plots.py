"""Pictures are written, and show what is there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from tesa.choose.plan import Plan
from tesa.errors import UsageError
from tesa.report.plots import density, plot_masks, plot_speedups
from tests.report.test_tables import PLAN


def test_masks_become_a_picture(tmp_path: Path) -> None:
    weights = {"conv$1": np.eye(8), "fc": np.zeros((3, 4, 2, 2)), "bias": np.ones(5), "none": np.zeros((0, 4))}
    plot_masks(weights, tmp_path / "masks.png")
    picture = imread(tmp_path / "masks.png")
    assert picture.shape[1] > picture.shape[0] > 100
    assert picture[..., :3].min() < 0.1


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_picture_twice_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        plot_masks({"w": np.eye(4)}, tmp_path / (name + suffix))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_speedups_become_a_picture(tmp_path: Path) -> None:
    plot_speedups(PLAN, tmp_path / "gain.png")
    assert imread(tmp_path / "gain.png").size > 0


def test_a_plan_without_times(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="knows no times"):
        plot_speedups(Plan("x86", 1, ()), tmp_path / "gain.png")
    assert list(tmp_path.iterdir()) == []


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weight to draw"):
        plot_masks({}, tmp_path / "masks.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'matplotlib"):
        plot_masks({"w": np.eye(2)}, tmp_path / "masks.png")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_density_keeps_the_range_and_shows_every_nonzero(rows: int, columns: int, most: int, seed: int) -> None:
    weight = np.random.default_rng(seed).random((rows, columns)) < 0.2
    picture = density(weight, most)
    assert picture.shape == (min(rows, most), min(columns, most))
    assert 0 <= picture.min() <= picture.max() <= 1
    assert bool(picture.any()) == bool(weight.any())
    if rows % picture.shape[0] == 0 and columns % picture.shape[1] == 0:
        assert np.isclose(picture.mean(), weight.mean())
