"""A layer of several parts in reports: its candidates once, its times once, every part by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tesa.choose.plan import LEFT_OUT, Candidate, Plan
from tesa.report.kernel import kernel_html
from tesa.report.plan import explanation, left_out, plan_table
from tesa.report.times import layer_times
from tests.choose.test_plan import LAYER, PARTS, PLAN
from tests.report.test_tables import text


def test_the_table_names_both_parts_and_the_time_of_the_whole() -> None:
    row = next(line for line in text([plan_table(PLAN)]).splitlines() if "fc" in line)
    assert "block 32x32 + unstructured" in row
    assert "cover: block + indexed" in row
    assert "4.00x" in row or "4.0x" in row
    times = layer_times(LAYER)
    assert (times.chosen_ms, times.dense_ms, times.measured) == (0.5, 2.0, True)


def test_the_explanation_has_the_candidates_once() -> None:
    shown = text(explanation(LAYER, PLAN))
    assert "part 1 of 2: block 32x32, 32 bits, 2048 non-zeros, computed by block" in shown
    assert "part 2 of 2: unstructured, 32 bits, 18 non-zeros, computed by indexed" in shown
    assert shown.count("why: ") == 1
    assert shown.count("cover.32x32=310") == 1
    assert shown.index("part 2 of 2") < shown.index("why: measured: cover 0.5 ms")


def test_html_names_the_parts() -> None:
    shown = kernel_html(LAYER, np.eye(64), "here")
    assert "block 32x32 + unstructured" in shown
    assert (
        "cover: block 32x32 (32 bits, 2048 non-zeros) by block + unstructured (32 bits, 18 non-zeros) by indexed"
        in shown
    )
    assert shown.count("<tr class=chosen>") == 1


def test_what_was_left_out_is_a_line_for_each_family() -> None:
    why = f"{LEFT_OUT} 31,000 instructions, the budget is 8,000 (--code-budget)"
    big = Candidate("unrolled", {"rows": 26}, 0.1, None, why)
    first = replace(PARTS[0], candidates=(*PARTS[0].candidates, big))
    layers = tuple(replace(LAYER, layer=name, parts=(first, PARTS[1])) for name in ("one", "two"))
    (line,) = left_out(Plan("x86:haswell", 1, (*layers, *PLAN.layers)))
    assert line == (
        "unrolled: left out in 2 of 3 layers with weights, as in one: 31,000 instructions, the budget is 8,000 "
        "(--code-budget)"
    )
    assert why in text(explanation(layers[0], PLAN))
    assert list(left_out(PLAN)) == []
