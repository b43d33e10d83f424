"""An index that a table has no row for is refused, whoever calls the model: kernels would read beside the table."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi

from tesa.compiler import compile_model
from tesa.errors import UsageError
from tests.build.bare.calling import Library
from tests.frontend.onnx_models import floats, model, node, port
from tests.runtime.models import build

TABLE = floats(3, 5)
GOOD = [[2, 4], [-3, -5]]
BAD = [([[0, 0], [3, 0]], 3, "at place 0", (-3, 2)), ([[0, 5], [0, 0]], 5, "at place 1", (-5, 4)),
       ([[0, 0], [0, -6]], -6, "at place 1", (-5, 4))]  # fmt: skip
"""Indices, the one that is wrong, where it stands, and what may stand there."""


def gather_nd(dtype: str = "int64") -> Any:
    cast = [node("Cast", ["x"], "i", to=7)] if dtype != "int64" else []
    table = node("GatherND", ["t", "i" if cast else "x"], "y")
    return model([*cast, table], [port("x", [2, 2], dtype)], ["y"], {"t": TABLE})


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32"])
def test_each_place_of_the_last_axis_has_a_bound_of_its_own(tmp_path: Path, dtype: str) -> None:
    compiled = build(tmp_path, gather_nd(dtype))
    library = tvm_ffi.load_module(str(tmp_path / "model.so"))
    good = np.array(GOOD, dtype)
    np.testing.assert_array_equal(compiled(good)["y"], TABLE[good.astype(int)[:, 0], good.astype(int)[:, 1]])
    assert library.get_function("tesa_function", True)(tvm_ffi.from_dlpack(good)) == "main"
    for rows, wrong, place, (low, high) in BAD:
        bad = np.array(rows, dtype)
        with pytest.raises(UsageError, match=rf"'x' holds {wrong}(\.0)? {place} .*takes indices from {low} to {high}$"):
            compiled(bad)
        with pytest.raises(IndexError, match=rf"input x holds {wrong}: .*takes indices from {low} to {high}"):
            library.get_function("tesa_function", True)(tvm_ffi.from_dlpack(bad))


@pytest.mark.parametrize("dtype", ["int64", "float32"])
@pytest.mark.parametrize("form", ["so", "c"])
def test_without_a_runtime(tmp_path: Path, form: str, dtype: str) -> None:
    compile_model(gather_nd(dtype), output=tmp_path / f"net.{form}", format=form, measure=False)
    if form == "c":
        files = [tmp_path / "net.c", "-o", tmp_path / "net.so"]
        subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *files], check=True)
    assert "each from -3 to 2, from -5 to 4 by place of the last axis" in (tmp_path / "net.h").read_text()
    library = Library(tmp_path / "net.so")
    np.testing.assert_array_equal(library.run({"x": np.array(GOOD, dtype)})["y"], [TABLE[2, 4], TABLE[0, 0]])
    for rows, *_ in BAD:
        with pytest.raises(AssertionError, match="outside of what the model's tables"):
            library.run({"x": np.array(rows, dtype)})


def test_reals_are_cut_towards_zero_and_nan_is_no_index(tmp_path: Path) -> None:
    compiled = build(tmp_path, gather_nd("float32"))
    reals = np.array([[2.9, 4.5], [-3.9, -0.5]], np.float32)
    np.testing.assert_array_equal(compiled(reals)["y"], [TABLE[2, 4], TABLE[0, 0]])
    with pytest.raises(UsageError, match="holds nan"):
        compiled(np.full((2, 2), np.nan, np.float32))
