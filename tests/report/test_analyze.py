"""What a model would cost, as a table: where a layer begins to pay."""

from __future__ import annotations

import pytest

from tesa.analyze.breakeven import BreakEven
from tesa.report.analyze import gain, pays_from


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "never"),
        (BreakEven("unstructured", None, 0.9, None, 0.1), "never"),
        (BreakEven("unstructured", 0.62, 0.5, 0.8, 0.1), "62 % (50 % - 80 %)"),
        (BreakEven("unstructured", 0.62, 0.5, None, 0.1), "62 % (50 % - never)"),
        (BreakEven("unstructured", 0.62, None, 0.7, 0.1), "62 % (<= 10 % - 70 %)"),
        (BreakEven("block=4x4", 0.1, 0.1, 0.3, 0.1), "<= 10 % (<= 10 % - 30 %)"),
        (BreakEven("block=4x4", 0.1, 0.1, 0.1, 0.1), "<= 10 %"),
        (BreakEven("2:4", 0.25, 0.25, 0.25, 0.25), "<= 25 %"),
    ],
)
def test_the_least_share_that_was_tried_stands_for_all_below(found: BreakEven | None, words: str) -> None:
    assert pays_from(found) == words


def test_a_gain_has_its_range_unless_both_are_one_kernel() -> None:
    assert gain(2.0, (1.5, 3.0)) == "2.00x (1.50x - 3.00x)"
    assert gain(1.0, (1.0, 1.0)) == "1.00x"
    assert gain(None, None) == "-"
