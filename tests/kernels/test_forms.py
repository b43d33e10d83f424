"""Every form of a weight: which families apply, why others do not, and how long they take."""

from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.errors import UsageError
from tesa.report.kernels import form_name
from tesa.schedules.registry import families

RNG = np.random.default_rng(0)
WEIGHT = np.where(RNG.random((32, 48)) >= 0.8, RNG.standard_normal((32, 48)), 0).astype("float32")


def test_every_family_is_listed_once_or_more() -> None:
    found = tesa.forms(WEIGHT, n=40)
    assert {form.family for form in found} == {family.name for family in families("cpu")}
    for form in found:
        assert form.applies == (not form.why_not)
        assert form.summary
        assert form.applies == (form.predicted_ms is not None)


def test_the_fastest_comes_first_and_the_dense_one_is_known() -> None:
    found = tesa.forms(WEIGHT, n=40)
    times = [form.predicted_ms for form in found if form.predicted_ms is not None]
    assert times == sorted(times)
    assert found.best == found[0]
    assert found.dense is not None
    assert found.dense.dense


@pytest.mark.slow
def test_measured_forms_have_times_and_each_was_compared() -> None:
    found = tesa.forms(WEIGHT, n=40, measure=True, family=["indexed", "dense"], progress=None)
    applying = [form for form in found if form.applies]
    assert {form.family for form in applying} >= {"indexed", "dense"}
    assert all(form.measured_ms is not None for form in applying)
    axes = found.plot().figure.axes[0]
    best: dict[str, float] = {}
    for form in applying:
        best[form_name(form)] = min(form.measured_ms or 0.0, best.get(form_name(form), 1e9))
    assert sorted(bar.get_width() for bar in axes.patches) == sorted(best.values())
    assert "measured" in axes.get_xlabel()


def test_a_family_that_does_not_apply_gives_its_reason_and_no_error() -> None:
    (form,) = tesa.forms(WEIGHT, n=40, family="vector")
    assert not form.applies
    assert form.why_not == "it computes 1 to 16 columns, and this has 40"
    with pytest.raises(UsageError, match="nothing to draw"):
        tesa.forms(WEIGHT, n=40, family="vector").plot()


def test_bars_are_the_best_of_each_family_by_what_is_expected(tmp_path: Path) -> None:
    found = tesa.forms(WEIGHT, n=40, family=["indexed", "dense", "vector"])
    axes = found.plot(tmp_path / "forms.svg").figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    best: dict[str, float] = {}
    for form in found:
        if form.predicted_ms is not None:
            best.setdefault(form_name(form), form.predicted_ms)
    assert names == list(best)
    assert [bar.get_width() for bar in axes.patches] == list(best.values())
    assert "estimated" in axes.get_xlabel()
    assert "indexed" in (tmp_path / "forms.svg").read_text()


def test_it_prints_within_100_columns_and_shows_itself_in_a_notebook() -> None:
    found = tesa.forms(WEIGHT, n=40)
    text, html = str(found), found._repr_html_()
    assert max(map(len, text.splitlines())) <= 100
    for part in ("unrolled", "it computes 1 to 16 columns"):
        assert part in text
        assert part in html
    assert "more rows" in html


def test_a_misspelt_argument_is_told() -> None:
    with pytest.raises(UsageError, match="did you mean 'epilogue'"):
        tesa.forms(WEIGHT, n=40, epilog="relu")


@pytest.mark.parametrize("family", ["indexed", "unrolled"])
def test_assembler_is_the_loops_with_a_count_and_full_has_the_checks(family: str) -> None:
    made = tesa.kernel(WEIGHT, n=40, family=family, measure=False, progress=None)
    text, full = made.show("asm"), made.show("asm", full=True)
    assert len(text.splitlines()) < len(full.splitlines())
    assert "instructions: " in text.splitlines()[0]
    count = sum(line.startswith("\t") and not line.startswith(("\t.", "\t#")) for line in text.splitlines())
    assert text.splitlines()[0].startswith(f"# {count} instructions")
    assert "TVMFFIErrorSetRaised" not in text
    assert "fmadd" in text
    assert "<span" in text._repr_html_()
