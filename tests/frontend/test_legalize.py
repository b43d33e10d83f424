"""Operators whose loops are tesa's own: the numbers of NumPy, and nothing on standard error."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.models import build

from .onnx_models import floats, model, node, port


def test_gathers_and_powers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    x = floats(2, 3, 6)
    x[0, 0] = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e20]
    exponents = (2.0, 3.0, 4.0, 7.0, 20.0, 3.5, 5.25, 2.5, 0.3, -2.25)
    constants = {
        "rows": np.array([[2, 0], [1, 1], [0, 2]]),
        "last": np.array(-1),
        **{f"e{place}": np.float32(value) for place, value in enumerate(exponents)},
    }
    nodes = [
        node("Gather", ["x", "rows"], "a", axis=1),
        node("Gather", ["x", "last"], "b", axis=2),
        *(node("Pow", ["x", f"e{place}"], f"p{place}") for place in range(len(exponents))),
    ]
    outputs = ["a", "b", *(f"p{place}" for place in range(len(exponents)))]
    got = build(tmp_path, model(nodes, [port("x", [2, 3, 6])], outputs, constants))(x)
    np.testing.assert_array_equal(got["a"], x[:, constants["rows"]])
    np.testing.assert_array_equal(got["b"], x[:, :, -1])
    with np.errstate(all="ignore"):
        for place, exponent in enumerate(exponents):
            np.testing.assert_allclose(
                got[f"p{place}"], np.power(x, np.full_like(x, exponent)), rtol=1e-6, err_msg=str(exponent)
            )
    assert capfd.readouterr() == ("", "")


def test_roots_and_reciprocals_call_no_library(tmp_path: Path) -> None:
    x = floats(5, 9)
    x[0] = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e20, -1e20, 1e-20, -1.0]
    exponents = (0.0, 0.5, 1.0, 1.5, 2.5, -0.5, -1.0, -1.5, -2.0, -3.0, -3.5, 0.25, 0.75, 1.25, 1.75, -0.75)
    constants = {f"e{place}": np.full([1] * (place % 3), value, np.float32) for place, value in enumerate(exponents)}
    nodes = [node("Pow", ["x", name], f"p{name}") for name in constants]
    model_ = build(tmp_path, model(nodes, [port("x", [5, 9])], [f"p{name}" for name in constants], constants))
    got = model_(x)
    with np.errstate(all="ignore"):
        for name, exponent in constants.items():
            expected = np.power(x, np.full_like(x, exponent))
            np.testing.assert_allclose(got[f"p{name}"], expected, rtol=1e-6, err_msg=str(exponent))
    assert not re.search(rb"\0powf?\0", model_.path.read_bytes())


def test_whole_powers_of_integers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    x = np.array([-5, -1, 0, 3, 40], np.int64)
    nodes = [node("Pow", ["x", "three"], "y")]
    proto = model(nodes, [port("x", [5], "int64")], ["y"], {"three": np.array(3, np.int64)})
    proto.graph.output[0].type.tensor_type.elem_type = 7
    np.testing.assert_array_equal(build(tmp_path, proto)(x)["y"], x**3)
    assert capfd.readouterr() == ("", "")


def test_the_largest_of_infinities_is_one(tmp_path: Path) -> None:
    x = floats(4, 5, 19)
    x[0], x[1], x[2, 3] = -np.inf, np.inf, 0
    every = [(axes, take) for axes in ((0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)) for take in ("Max", "Min")]
    names = [f"{take}{''.join(map(str, axes))}" for axes, take in every]
    nodes = [
        node(f"Reduce{take}", ["x", f"axes of {name}"], name, keepdims=0)
        for (_, take), name in zip(every, names, strict=True)
    ]
    constants = {f"axes of {name}": np.array(axes) for (axes, _), name in zip(every, names, strict=True)}
    found = build(tmp_path, model(nodes, [port("x", x.shape)], names, constants, opset=18))({"x": x})
    for (axes, take), name in zip(every, names, strict=True):
        np.testing.assert_array_equal(found[name], (x.max if take == "Max" else x.min)(axis=axes), name)


def test_a_division_by_zero_is_infinite(tmp_path: Path) -> None:
    x = np.array([[1.0, -2.0, 0.0]], np.float32)
    given = model([node("Div", ["x", "zero"], "y")], [port("x", x.shape)], ["y"], {"zero": np.float32(0)})
    np.testing.assert_array_equal(build(tmp_path, given)({"x": x})["y"], [[np.inf, -np.inf, np.nan]])


def test_a_choice_of_no_number_is_no_damaged_weight(tmp_path: Path) -> None:
    """What an If becomes whose other branch cannot run, in a file that was written of it."""
    x = np.array([[1.0, 2.0]], np.float32)
    nodes = [node("Greater", ["x", "limit"], "c"), node("Where", ["c", "x", "nan"], "y")]
    given = model(nodes, [port("x", x.shape)], ["y"], {"limit": np.float32(1.5), "nan": np.full((1, 1), np.nan, "f4")})
    np.testing.assert_array_equal(build(tmp_path, given)({"x": x})["y"], [[np.nan, 2.0]])
