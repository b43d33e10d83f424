"""The tolerance of a comparison: wide enough for another order of rounding, too narrow for a fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tesa.base.tolerance import Precision, has_numbers, tolerance_of
from tests.frontend.onnx_models import floats

BF16 = np.dtype(ml_dtypes.bfloat16)
HALF = Precision(half="float16")
QUANTIZED = Precision(bits=8)


def _ok(got: Any, expected: Any, precision: Precision = Precision(), noise: Any = None) -> bool:  # noqa: B008
    return tolerance_of(expected, precision, noise).holds(got, expected)


def _summed_in_half(x: Any, w: Any) -> Any:
    total = np.zeros((x.shape[0], w.shape[1]), np.float16)
    for k in range(x.shape[1]):
        total = (total + x[:, k : k + 1] * w[k]).astype(np.float16)
    return total


@pytest.mark.parametrize("terms", [128, 256, 1024])
@pytest.mark.parametrize("sign", [False, True])
def test_sums_in_float16_are_a_fault(terms: int, sign: bool) -> None:
    x, w = (floats(4, terms).astype(np.float16), floats(terms, 64, seed=1).astype(np.float16))
    if not sign:
        x, w = np.abs(x), np.abs(w)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    rounded = exact.astype(np.float16)
    once_more = (exact * (1 + 1e-4 * floats(*exact.shape, seed=2))).astype(np.float16)
    assert _ok(once_more, rounded, HALF)
    assert not _ok(_summed_in_half(x, w), rounded, HALF)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16])
def test_one_step_of_16_bits_is_none(dtype: Any) -> None:
    expected = (floats(100) * 10).astype(dtype)
    above = (expected.astype(np.float32) * (1 + float(ml_dtypes.finfo(dtype).eps))).astype(dtype)
    assert (above != expected).any()
    assert _ok(above, expected)
    assert not _ok((expected.astype(np.float32) * 1.05).astype(dtype), expected)


def test_a_step_of_a_code_is_none_if_it_is_rare() -> None:
    expected = np.arange(-50, 50, dtype=np.int8)
    off = expected.copy()
    off[[3, 40]] += 1
    assert _ok(off, expected, QUANTIZED)
    assert not _ok(expected + np.int8(1), expected, QUANTIZED), "all of them are off"
    often = expected.copy()
    often[::10] += 1
    assert not _ok(often, expected, QUANTIZED), "one in ten"
    off[3] += 1
    assert not _ok(off, expected, QUANTIZED), "two steps"
    assert not _ok(off, expected), "nothing is quantized, so these are no codes"


def test_what_follows_quantized_numbers_moves_by_a_step_here_and_there() -> None:
    expected = floats(1000) * 4
    largest = float(np.abs(expected).max())
    off = expected.copy()
    off[::50] += largest / 140
    assert _ok(off, expected, QUANTIZED)
    assert not _ok(off, expected)
    assert not _ok(expected + np.float32(largest / 140), expected, QUANTIZED), "everywhere"
    assert not _ok(expected * np.float32(1.01), expected, QUANTIZED), "a percent"
    off[7] += largest / 50
    assert not _ok(off, expected, QUANTIZED), "by more"


@pytest.mark.parametrize("size", [1e-5, 1e-2, 1.0, 1e4])
def test_float32_by_its_size(size: float) -> None:
    expected = floats(1000) * np.float32(size)
    assert _ok(expected + np.float32(size * 1e-6), expected)
    assert not _ok(expected * np.float32(1.01), expected)
    other = expected.copy()
    other[np.abs(expected).argmin()] = size / 10
    assert not _ok(other, expected), "one element"


def test_the_last_digits_near_zero_are_none() -> None:
    expected = np.full(100, 1.1e-7, np.float32)
    assert _ok(expected + np.float32(1.2e-7), expected)
    assert not _ok(expected + np.float32(5e-7), expected)


def test_whole_numbers_are_exact() -> None:
    for dtype in ("int64", "int32", "bool", "uint8"):
        expected = np.array([1, 0, 1]).astype(dtype)
        assert _ok(expected, expected)
        assert not _ok(np.array([0, 0, 1]).astype(dtype), expected)
    assert not _ok(np.array([5001]), np.array([5000]))


def test_the_engines_own_noise_counts() -> None:
    expected = floats(1000)
    noise = np.abs(floats(1000, seed=1)) * 1e-2
    off = expected + noise * 1.5
    assert not _ok(off, expected)
    assert _ok(off, expected, noise=noise)
    assert not _ok(expected + np.float32(0.12) * np.sign(expected), expected, noise=noise), "ten times the noise"
    words = str(tolerance_of(expected, Precision(), noise))
    assert "onnxruntime's own noise" in words


def test_nan_and_infinity() -> None:
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    assert _ok(np.array([nan, inf, 1]), np.array([nan, inf, 1]))
    assert not _ok(np.array([nan, 1]), np.array([1, 1], np.float32))
    assert not _ok(np.array([inf, 1]), np.array([1, 1], np.float32))
    assert not has_numbers(np.full(3, nan))
    assert has_numbers(np.zeros(0))


def test_int32_sums_of_codes_move_by_a_few_steps() -> None:
    expected = (floats(1000) * 50000).astype(np.int32)
    off = expected.copy()
    off[3] += 255
    assert _ok(off, expected, QUANTIZED), "one code, a step off"
    off[3] += 400
    assert not _ok(off, expected, QUANTIZED)
    assert not _ok(expected + 300, expected, QUANTIZED), "everywhere"
    small = np.arange(100, dtype=np.int32)
    assert not _ok(small + 2, small, QUANTIZED), "the sums are no larger than a step"


def test_whole_numbers_are_the_same() -> None:
    sums = np.array([170000, -3], np.int32)
    precision = replace(QUANTIZED, whole=frozenset({"sums"}))
    assert tolerance_of(sums, precision.at("sums")).exact
    assert not tolerance_of(sums, precision.at("others")).exact
