"""Every form of a weight: which families apply, why others do not, and how long they take."""

import numpy as np
import pytest

import tesa
from tesa.errors import UsageError
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


def test_measured_forms_have_times_and_each_was_compared() -> None:
    found = tesa.forms(WEIGHT, n=40, measure=True, family=["indexed", "dense"], progress=None)
    applying = [form for form in found if form.applies]
    assert {form.family for form in applying} >= {"indexed", "dense"}
    assert all(form.measured_ms is not None for form in applying)


def test_a_family_that_does_not_apply_gives_its_reason_and_no_error() -> None:
    (form,) = tesa.forms(WEIGHT, n=40, family="vector")
    assert not form.applies
    assert form.why_not == "it computes 1 to 16 columns, and this has 40"


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
