"""The family for few columns of int8 by tbl and a dot product, of bytes of one sign or of two."""

from __future__ import annotations

from typing import Any

import pytest

from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Output
from tesa.targets.target import parse_target
from tests.emulated.programs import case, check
from tests.schedules.test_few_columns import LAYOUTS, draw, product
from tests.support import rest_slow

SIZES = [(1, 1, 1, 1), (70, 200, 1, 1), (37, 131, 3, 1), (24, 64, 2, 4), (40, 100, 16, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_slow(["aarch64:cortex-a76", "aarch64:neoverse-v1"]))  # sdot, usdot
def test_numbers(name: str) -> None:
    target, cases = parse_target(name), []
    for number, (m, k, n, batch) in enumerate(SIZES):
        for layout in LAYOUTS:
            bits = 4 if number % 2 else 8
            zero = 0 if layout == "features_first" else 131
            stored: dict[str, Any] = (
                {"output": Output("uint8", 0.05, 7), "epilogue": Epilogue(True, True, "relu", True)} if n == 3 else {}
            )
            problem, w = product(m, k, n, batch, layout, x_zero=zero, **stored), draw(m, k, 0.3, bits)
            space = find("gathered").space(problem, w, target.core)
            assert space
            chosen = space[number % len(space)], space[-1]
            cases += [case("gathered", problem, w, target, config) for config in chosen[: 1 + (n == 1)]]
    check(cases, target)
