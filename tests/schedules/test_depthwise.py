"""The depthwise family against NumPy: windows of any shape, live taps that differ between channels, borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.schedules.cpu.depthwise import MAX_MASKS
from tesa.schedules.cpu.taps import fmas, groups_of
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Epilogue, FloatArray, Problem, Window
from tests.schedules import golden
from tests.schedules.guarded import harsh
from tests.schedules.reference import AVX2, AVX512, HERE, check, run
from tests.schedules.strategies import cores, epilogues, threads
from tests.support import drawn

DEPTHWISE = find("depthwise")
PLAIN = Epilogue()


def problem(channels: int, window: Window, batch: int = 1, epilogue: Epilogue = PLAIN, threads: int = 1) -> Problem:
    shape = (window.out_height, window.out_width)
    return Problem(
        "depthwise",
        channels,
        window.kernel[0] * window.kernel[1],
        shape[0] * shape[1],
        (batch, channels, window.height, window.width),
        (batch, channels, *shape),
        batch,
        window,
        epilogue,
        threads=threads,
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height = draw(st.integers(max(reach[0] - padding[0] - padding[2], 1), 24))
    width = draw(st.integers(max(reach[1] - padding[1] - padding[3], 1), 60))
    window = Window(height, width, kernel, stride, padding, dilation)
    return problem(draw(st.integers(1, 6)), window, draw(st.integers(1, 2)), draw(epilogues), draw(threads))


def weights(p: Problem, density: float, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((p.m, p.k)) * (rng.random((p.m, p.k)) < density)).astype(np.float32)


@drawn(30)
@given(problems(), cores, st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.data())
def test_any_window(p: Problem, core: Core, density: float, data: st.DataObject) -> None:
    weight = weights(p, density, data.draw(st.integers(0, 99)))
    configs = DEPTHWISE.space(p, weight, core)
    assert configs
    with harsh(data.draw(st.booleans())):
        check("depthwise", p, weight, core, data.draw(st.sampled_from(configs)))


@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
@pytest.mark.parametrize(("size", "stride"), [(7, 1), (8, 1), (14, 2), (16, 1), (33, 2), (40, 1)])
def test_maps_of_a_network(size: int, stride: int, core: Core) -> None:
    window = Window(size, size, (3, 3), (stride, stride), (1, 1, 1, 1))
    p = problem(3, window, epilogue=Epilogue(bias=True, activation="relu6"), threads=2)
    weight = weights(p, 1.0, size)
    check("depthwise", p, weight, core, DEPTHWISE.space(p, weight, core)[0])


def test_not_a_number_goes_through_a_relu() -> None:
    p = problem(1, Window(4, 4, (1, 1)), epilogue=Epilogue(activation="relu"))
    x = np.full(p.x_shape, np.nan, np.float32)
    got = run("depthwise", p, np.ones((1, 1), np.float32), AVX512, {"rows": 4}, x)
    assert np.isnan(got).all()


def test_channels_share_code_by_their_live_taps() -> None:
    window = Window(9, 9, (3, 3), padding=(1, 1, 1, 1))
    live = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], bool)
    groups, order = groups_of(live, Window(9, 9, (1, 2)))
    assert [(g.taps, g.start, g.count) for g in groups] == [((), 0, 1), (((0, 0),), 1, 2), (((0, 0), (0, 1)), 3, 1)]
    assert order is not None
    assert order.tolist() == [3, 0, 2, 1]
    p = problem(4, window)
    weight = np.zeros((4, 9), np.float32)
    weight[:, 4] = 1
    one = DEPTHWISE.emit(p, weight, AVX512, {"rows": 3}, "one")
    assert len(one.constants) == 1
    # dead taps are no code: one FMA or product for each row, instead of nine
    assert str(one.main.script()).count("W_flat[") == 1


def test_too_many_sets_of_taps_become_one() -> None:
    p = problem(64, Window(6, 6, (3, 3)))
    weight = weights(p, 0.5, 0)
    assert len(np.unique(weight != 0, axis=0)) > MAX_MASKS
    assert len(DEPTHWISE.emit(p, weight, AVX512, {"rows": 4}, "many").constants) == 1
    check("depthwise", p, weight, AVX512, {"rows": 4})


def test_code_grows_with_borders_not_with_size() -> None:
    groups, _ = groups_of(np.ones((1, 9), bool), Window(9, 9, (3, 3)))
    sizes = {fmas(Window(n, n, (3, 3), padding=(1, 1, 1, 1)), 16, 4, groups) for n in (64, 256, 1024)}
    assert len(sizes) == 1


def test_other_operators_are_refused() -> None:
    p = Problem("linear", 4, 4, 4, (1, 4, 4), (1, 4, 4))
    weight = np.ones((4, 4), np.float32)
    assert DEPTHWISE.space(p, weight, AVX512) == ()
    with pytest.raises(ValueError, match="cannot compute op 'linear'"):
        DEPTHWISE.emit(p, weight, AVX512, {"rows": 1}, "no")


def test_estimate_follows_the_work() -> None:
    window = Window(28, 28, (3, 3), padding=(1, 1, 1, 1))
    small, large = problem(8, window), problem(80, window)
    estimates = [DEPTHWISE.estimate(p, weights(p, 1.0, 0), AVX512, {"rows": 4}) for p in (small, large)]
    assert 0 < estimates[0] < estimates[1]


def test_golden() -> None:
    window = Window(3, 8, (1, 3), padding=(0, 1, 0, 1))
    p = problem(2, window, epilogue=Epilogue(bias=True, activation="relu"))
    weight = np.array([[1, 0, 3], [4, 0, 6]], np.float32)
    golden.compare("depthwise", DEPTHWISE.emit(p, weight, AVX2, {"rows": 2}, "depthwise"))
