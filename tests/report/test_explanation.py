"""The reasons for a layer's kernel, in words."""

from __future__ import annotations

import pytest

from tesa.choose.plan import LayerPlan, Plan
from tesa.report.plan import explanation


@pytest.mark.parametrize(("sparsity", "told"), [(0.9, True), (0.0, False)])
def test_what_a_zero_does_to_nan_is_said(sparsity: float, told: bool) -> None:
    layer = LayerPlan("fc", "linear", "sparse", (8, 8, 1), sparsity=sparsity)
    words = "\n".join(str(item) for item in explanation(layer, Plan("x86:haswell", 1, (layer,))))
    assert ("0 * NaN" in words) == told
