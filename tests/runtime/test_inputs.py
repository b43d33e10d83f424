"""What a compiled model can be called with."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.errors import UsageError
from tesa.runtime import Model
from tesa.runtime.inputs import checked
from tests.frontend.onnx_models import model, node, port

from .models import build, identity

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return build(tmp_path_factory.mktemp("relu"), identity())


def _read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def _misaligned(array: Any) -> Any:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize(
    "array",
    [
        X,
        _read_only(X),
        _misaligned(X),
        np.broadcast_to(X[0], (2, 3)),
        np.broadcast_to(np.float32(-2), (2, 3)),
        np.asfortranarray(X),
        X[:, ::-1],
        np.frombuffer(X.tobytes(), np.float32).reshape(2, 3),
        X.view(np.matrix),
    ],
    ids=["plain", "read-only", "misaligned", "rows", "scalar", "fortran", "reversed", "bytes", "matrix"],
)
def test_every_float32_array_of_the_shape(relu: Model, array: Any) -> None:
    before = np.array(array)
    for feeds in ({"x": array}, [array], array):
        np.testing.assert_array_equal(relu(feeds)["y"], np.maximum(np.asarray(array), 0))
    np.testing.assert_array_equal(array, before)


def test_what_is_copied(relu: Model) -> None:
    info = relu.inputs[0]
    for array in (X, _read_only(X)):
        assert np.shares_memory(checked(array, info), array)
    for array in (_misaligned(X), np.asfortranarray(X), np.broadcast_to(X[0], (2, 3))):
        assert not np.shares_memory(checked(array, info), array)


def test_a_prepared_read_only_array_lives_on(relu: Model) -> None:
    prepared = relu.prepare([_read_only(np.full((2, 3), 7, np.float32))])
    gc.collect()
    others = [np.full((2, 3), 1, np.float32) for _ in range(100)]
    np.testing.assert_array_equal(relu.collect(relu.execute(prepared))["y"], np.full((2, 3), 7))
    assert len(others) == 100


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (X.astype(">f4"), "got float32 in the other byte order (>f4) of shape [2, 3]"),
        (X.astype(np.float64), "got float64 of shape [2, 3]"),
        (X[:1], "got float32 of shape [1, 3]"),
        (X.tolist(), "got list; make an array of it: numpy.asarray(x, 'float32')"),
        ("text", "got str"),
        (np.array("text"), "got str"),
        (None, "got NoneType"),
    ],
)
def test_everything_else_is_refused(relu: Model, value: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=r"^input 'x': expected float32 of shape \[2, 3\], ") as caught:
        relu({"x": value})
    assert expected in str(caught.value)


@pytest.mark.parametrize("feeds", ["text", b"x", 3, None, [], [X, X]])
def test_feeds_that_are_none(relu: Model, feeds: Any) -> None:
    with pytest.raises(UsageError):
        relu(feeds)


def test_other_types_and_no_axes(tmp_path: Path) -> None:
    nodes = [node("Cast", ["i"], "f", to=1), node("Mul", ["f", "s"], "y")]
    compiled = build(tmp_path, model(nodes, [port("i", [4], "int64"), port("s", [])], ["y"]))
    numbers = np.arange(4)
    for i in (numbers, _read_only(numbers), _misaligned(numbers), np.broadcast_to(np.int64(5), (4,))):
        for s in (np.array(3, np.float32), np.float32(3), _read_only(np.array(3, np.float32))):
            np.testing.assert_array_equal(compiled([i, s])["y"], np.asarray(i) * 3)
    with pytest.raises(UsageError, match="expected int64"):
        compiled([numbers.astype(">i8"), np.float32(3)])
