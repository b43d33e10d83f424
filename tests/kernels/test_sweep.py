"""Sweeps over patterns and sparsities, and kernels that are timed in turn."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.errors import UsageError
from tesa.kernels.sweep import Sweep, SweepPoint, SweptForm
from tesa.measure.peak import Peak
from tesa.records.log import Log
from tesa.report.style import apart
from tesa.schedules.types import Problem

PROBLEM = Problem("linear", 8, 8, 16, (8, 16), (8, 16))


def _sweep(*gains: tuple[float, float]) -> Sweep:
    points = [SweepPoint("unstructured", zeros, gain, (SweptForm("indexed", {}, 1.0),)) for zeros, gain in gains]
    return Sweep(PROBLEM, "x86", tuple(points))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    log = tmp_path_factory.mktemp("log")
    options = {"sparsity": [0.9, 0.5], "patterns": ["unstructured", "2:4"], "forms": ["indexed"], "progress": None}
    return tesa.sweep((32, 32), n=32, log=log, **options), log


def test_points_go_from_few_zeros_to_many_and_a_pattern_with_one_share_has_one(swept: tuple[Sweep, Path]) -> None:
    found, _ = swept
    assert [(point.pattern, point.sparsity) for point in found] == [
        ("unstructured", 0.5), ("unstructured", 0.9), ("2:4", 0.5),
    ]  # fmt: skip
    for point in found:
        assert {form.family for form in point.forms} >= {"indexed", "dense"}
        assert [form.ms for form in point.forms] == sorted(form.ms for form in point.forms)
        assert point.dense_ms > 0


def test_what_the_log_knows_is_not_measured_again(swept: tuple[Sweep, Path]) -> None:
    found, log = swept
    before = sum(len(path.read_text().splitlines()) for path in log.glob("*.jsonl"))
    again = tesa.sweep((32, 32), n=32, log=log, sparsity=[0.5, 0.9], patterns=["unstructured", "2:4"],
                       forms=["indexed"], progress=None)  # fmt: skip
    assert sum(len(path.read_text().splitlines()) for path in log.glob("*.jsonl")) == before > 0
    assert again == found
    assert Log.load(log)


def test_it_is_drawn_and_printed(swept: tuple[Sweep, Path], tmp_path: Path) -> None:
    found, _ = swept
    picture = found.plot(tmp_path / "sweep.svg")
    assert "unstructured" in (tmp_path / "sweep.svg").read_text()
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert "unstructured" in str(found)
    assert "over dense" in found._repr_html_()


def test_the_break_even_is_between_the_points_around_it() -> None:
    assert _sweep((0.5, 0.5), (0.9, 1.5)).break_even("unstructured") == pytest.approx(0.7)
    assert _sweep((0.5, 0.5), (0.9, 0.9)).break_even("unstructured") is None
    assert _sweep((0.5, 1.5), (0.9, 2.5)).break_even("unstructured") == 0.5


@pytest.mark.parametrize("places", [[1.0, 1.0, 1.0], [3.0, 1.0, 2.9], [0.0, 5.0, 10.0], []])
def test_labels_keep_their_distance_and_their_order(places: list[float]) -> None:
    found = apart(places, 1.0)
    ordered = sorted(found)
    assert all(after - before >= 1.0 - 1e-6 for before, after in pairwise(ordered))
    assert [places[i] for i in np.argsort(found, kind="stable")] == sorted(places)


def test_kernels_are_compared_in_turn() -> None:
    weight = np.eye(32, dtype=np.float32)
    first, second = (tesa.kernel(weight, n=32, family=name, measure=False) for name in ("dense", "indexed"))
    found = first.compare(second, rounds=2)
    assert [row.timing.repeats for row in found] == [2, 2]
    assert found[0].ratio == 1.0
    assert found[1].ratio == pytest.approx(found[0].timing.min_ms / found[1].timing.min_ms)
    assert "over the first" in str(found)
    widths = [bar.get_width() for bar in found.plot().figure.axes[0].patches]
    assert widths == [row.timing.min_ms for row in found]
    with pytest.raises(UsageError, match="give two kernels or more"):
        tesa.compare(first)


def test_a_kernel_stands_under_the_roof_of_its_machine(tmp_path: Path) -> None:
    weight = np.where(np.arange(32 * 32).reshape(32, 32) % 4 == 0, 1.0, 0.0)
    made = tesa.kernel(weight, n=64, family="indexed", measure=False)
    found = made.roofline()
    assert found.flops == 2 * 256 * 64
    assert found.dense_flops == 4 * found.flops
    assert found.bytes >= 4 * (2 * 32 * 64)
    assert found.peak.gflops > 0 < found.peak.gbytes
    assert found.bound in ("memory", "compute")
    found.plot(tmp_path / "roof.png")
    made.plot_mask(tmp_path / "mask.png")
    assert (tmp_path / "mask.png").stat().st_size > 1000


def test_a_kernel_of_codes_stands_under_the_roof_of_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.where(np.arange(32 * 32).reshape(32, 32) % 4 == 0, 1.0, 0.0)
    made = tesa.kernel(weight, n=64, dtype="int8", family="dense", measure=False)
    monkeypatch.setattr("tesa.kernels.roofline.peak", lambda _: Peak(100.0, 10.0, 400.0))
    found = made.roofline()
    assert (found.unit, found.most) == ("GOP/s", 400.0)
    assert found.bytes >= 32 * 64 + 4 * 32 * 64
    assert "GOP/s" in str(found)
    monkeypatch.setattr("tesa.kernels.roofline.peak", lambda _: Peak(100.0, 10.0))
    with pytest.raises(UsageError, match="no instruction for products of int8"):
        made.roofline()


def test_wrong_arguments_of_a_sweep_are_told() -> None:
    with pytest.raises(UsageError, match="shape is that of a weight"):
        tesa.sweep((32,), n=8)
    with pytest.raises(UsageError, match="unknown pattern"):
        tesa.sweep((32, 32), n=8, patterns=["stripes"])
    with pytest.raises(UsageError, match="nothing to sweep"):
        tesa.sweep((32, 32), n=8, sparsity=[])
