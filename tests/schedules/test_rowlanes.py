"""The rowlanes family against NumPy: ragged n, windows, dead columns, integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.schedules.cpu.rowlanes import groups
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Epilogue, Output, Problem, Window
from tests.schedules import golden, test_int8
from tests.schedules.reference import AVX2, AVX512, HERE, check
from tests.schedules.strategies import cores, epilogues, threads, weights, windows
from tests.support import drawn

ROWLANES = find("rowlanes")


pytestmark = pytest.mark.usefixtures("any_work_on_threads")


@st.composite
def linears(draw: st.DrawFn) -> Problem:
    m, k, batch = draw(st.integers(8, 90)), draw(st.integers(1, 40)), draw(st.integers(1, 2))
    n = draw(st.one_of(st.integers(2, 60), st.sampled_from([49, 100])))
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, None, draw(epilogues), threads=draw(threads))


@drawn(30)
@given(st.one_of(linears(), windows), cores, st.data())
def test_any_problem(p: Problem, core: Core, data: st.DataObject) -> None:
    weight = data.draw(weights(p))
    configs = ROWLANES.space(p, weight, core)
    if configs:
        check("rowlanes", p, weight, core, data.draw(st.sampled_from(list(configs))))


@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
@pytest.mark.parametrize("panel", [1, 2, 4])
@pytest.mark.parametrize("listed", [0, 1])
def test_a_convolution_of_seven_by_seven(core: Core, panel: int, listed: int) -> None:
    window = Window(7, 7, (3, 3), padding=(1, 1, 1, 1))
    epilogue = Epilogue(bias=True, residual=True, activation="relu")
    p = Problem("conv2d", 70, 45, 49, (1, 5, 7, 7), (1, 70, 7, 7), 1, window, epilogue, threads=2)
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((70, 45)) * (rng.random((70, 45)) < 0.03)).astype(np.float32)
    check("rowlanes", p, weight, core, {"panel": panel, "list": listed})


@drawn(25)
@given(
    st.tuples(st.integers(8, 70), st.integers(1, 40), st.integers(2, 60)),
    test_int8.cores,
    st.integers(0, 99),
    st.data(),
)
def test_sums_of_integers_are_exact(size: Any, core: Core, seed: int, data: st.DataObject) -> None:
    problem = test_int8.product(
        *size, batch=data.draw(st.sampled_from([1, 2])), threads=data.draw(st.sampled_from([1, 2]))
    )
    w, x = test_int8.draw(problem, data.draw(st.sampled_from([0.01, 0.5])), seed)
    space = ROWLANES.space(problem, w, core)
    if space:
        got = test_int8.run("rowlanes", problem, w, x, core, data.draw(st.sampled_from(list(space))))
        np.testing.assert_array_equal(got, w.astype(np.int64) @ x.astype(np.int64))


@pytest.mark.parametrize("core", test_int8.HERE, ids=lambda core: f"{core.name}-{core.dot.group}")
def test_quantized_results(core: Core) -> None:
    from tesa.measure.reference import Inputs, reference

    epilogue = Epilogue(bias=True, activation="gelu", scale=True)
    problem = test_int8.product(40, 30, 49, output=Output("uint8", 0.05, 7), epilogue=epilogue)
    w, _ = test_int8.draw(problem, 0.4, 3)
    inputs = Inputs.random(problem, 5)
    wanted = reference(problem, w, inputs)
    got = test_int8.run("rowlanes", problem, w, inputs.x, core, {"panel": 2, "list": 0}, *inputs.extra)
    assert got.dtype == np.uint8
    assert wanted.error(got) <= wanted.tolerance


@given(st.integers(1, 300), st.integers(1, 30))
def test_groups_cover_a_row_once(width: int, most: int) -> None:
    seen = [g.first + i * g.size + j for g in groups(width, most) for i in range(g.count) for j in range(g.size)]
    assert seen == list(range(width))
    assert max(g.size for g in groups(width, most)) <= most


def test_dead_columns_are_not_stored() -> None:
    p = Problem("linear", 64, 30, 5, (30, 5), (64, 5))
    weight = np.zeros((64, 30), np.float32)
    weight[:16, 3] = weight[40, 7] = weight[41, 9] = 1
    code = ROWLANES.emit(p, weight, AVX512, {"panel": 1, "list": 1}, "v")
    values, offsets, at, _bounds = code.constants
    assert offsets.tolist() == [15, 35, 45]
    assert at.tolist() == [0, 1, 1, 3, 3]
    assert values.size == 3 * 16


@pytest.mark.parametrize(
    "p",
    [
        Problem("linear", 32, 8, 64, (1, 8, 64), (1, 32, 64)),
        Problem("linear", 32, 8, 257, (1, 8, 257), (1, 32, 257)),
        Problem("linear", 7, 8, 5, (1, 8, 5), (1, 7, 5)),
        Problem("depthwise", 32, 9, 49, (1, 32, 7, 7), (1, 32, 7, 7), window=Window(7, 7, (3, 3), (1, 1), (1,) * 4)),
    ],
    ids=["whole vectors", "wide", "few rows", "depthwise"],
)
def test_where_it_does_not_apply(p: Problem) -> None:
    assert not ROWLANES.space(p, np.ones((p.m, p.k), np.float32), AVX512)


def test_too_few_rows_are_refused() -> None:
    p = Problem("linear", 7, 8, 5, (1, 8, 5), (1, 7, 5))
    with pytest.raises(ValueError, match="cannot compute linear of 7 rows"):
        ROWLANES.emit(p, np.ones((7, 8), np.float32), AVX512, {"panel": 1, "list": 0}, "no")


def test_golden() -> None:
    weight = np.zeros((8, 4), np.float32)
    weight[:, 1:3] = np.arange(16).reshape(8, 2)
    problem = Problem("linear", 8, 4, 5, (4, 5), (8, 5), epilogue=Epilogue(bias=True, activation="relu"))
    golden.compare("rowlanes", ROWLANES.emit(problem, weight, AVX2, {"panel": 1, "list": 1}, "kernel"))
