"""A library for several sizes: each is right, the inputs choose, shorter ones are filled up where that is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.compiler import compile_model
from tesa.errors import UsageError
from tesa.runtime import Model, load, verify
from tests.frontend.onnx_models import floats, model, node, port

from .models import build

WORDS, WIDTH = 3000, 32


def attention() -> Any:
    """One head of attention over a table of words, (batch, tokens) -> (batch, tokens, WIDTH)."""
    nodes = [
        node("Gather", ["table", "ids"], "e"),
        node("MatMul", ["e", "wq"], "q"),
        node("MatMul", ["e", "wk"], "k"),
        node("Transpose", ["k"], "kt", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], "s"),
        node("Cast", ["mask"], "m", to=1),
        node("Sub", ["m", "one"], "m1"),
        node("Mul", ["m1", "large"], "m2"),
        node("Unsqueeze", ["m2", "axis"], "m3"),
        node("Add", ["s", "m3"], "t"),
        node("Softmax", ["t"], "p", axis=-1),
        node("MatMul", ["p", "e"], "o"),
        node("MatMul", ["o", "wo"], "y"),
    ]
    constants = {
        "table": floats(WORDS, WIDTH),
        **{
            name: floats(WIDTH, WIDTH, seed=n) * (np.arange(WIDTH**2).reshape(WIDTH, WIDTH) % 3 == n)
            for n, name in enumerate("wq wk wo".split())
        },
        "one": np.float32(1),
        "large": np.float32(1e4),
        "axis": np.array([1]),
    }
    ports = [port(name, ["batch", "tokens"], "int64") for name in ("ids", "mask")]
    return model(nodes, ports, ["y"], constants)


def expected(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The masked model by NumPy."""
    constants = {
        t.name: np.frombuffer(t.raw_data, np.float32).reshape(t.dims) for t in attention().graph.initializer[:4]
    }
    e = constants["table"][ids]
    s = e @ constants["wq"] @ (e @ constants["wk"]).transpose(0, 2, 1) + ((mask - 1) * 1e4)[:, None]
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ e @ constants["wo"]


def feeds(batch: int, tokens: int, valid: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch * 100 + tokens)
    mask = np.tile(np.arange(tokens) < (valid or tokens), (batch, 1)).astype(np.int64)
    return {"ids": rng.integers(0, WORDS, (batch, tokens)), "mask": mask}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """For two batches and two lengths."""
    folder = tmp_path_factory.mktemp("sizes")
    return build(folder, attention(), shapes={"tokens": [4, 8], "batch": [1, 3]}, pad=["tokens"])


@pytest.mark.parametrize(("batch", "tokens"), [(1, 4), (3, 4), (1, 8), (3, 8)])
def test_every_size_computes_its_own(compiled: Model, batch: int, tokens: int) -> None:
    given = feeds(batch, tokens, valid=3)
    np.testing.assert_allclose(compiled(given)["y"], expected(**given), rtol=1e-4, atol=1e-4)
    assert compiled.prepare(given).size.dims == {"tokens": tokens, "batch": batch}


@pytest.mark.parametrize(("batch", "tokens", "size"), [(1, 3, 4), (3, 5, 8), (1, 7, 8), (3, 1, 4)])
def test_shorter_inputs_are_filled_up_to_the_next_size(compiled: Model, batch: int, tokens: int, size: int) -> None:
    given = feeds(batch, tokens)
    prepared = compiled.prepare(given)
    assert prepared.size.dims == {"tokens": size, "batch": batch}
    got = compiled.collect(compiled.execute(prepared), prepared)["y"]
    assert got.shape == (batch, tokens, WIDTH)
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, expected(**given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"ids": (2, 4), "mask": (2, 4)}, r"shapes ids \[2, 4\], mask \[2, 4\].*tokens=4, batch=1: ids \[1, 4\]"),
        ({"ids": (1, 9), "mask": (1, 9)}, "filled up along tokens only"),
        ({"ids": (1, 3), "mask": (1, 4)}, "no size of the model takes"),
        ({"ids": (1, 4), "mask": (1, 4, 1)}, "no size of the model takes"),
        ({"ids": (1, 0), "mask": (1, 0)}, "no size of the model takes"),
    ],
)
def test_other_shapes_are_refused_with_the_list(compiled: Model, shapes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compiled({name: np.ones(shape, np.int64) for name, shape in shapes.items()})


def test_without_padding_a_size_between_is_refused(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], "y")], [port("x", ["n", 3])], ["y"])
    compiled = build(tmp_path, proto, shapes={"n": [2, 4]})
    assert compiled(np.ones((4, 3), np.float32))["y"].shape == (4, 3)
    with pytest.raises(UsageError, match=r"compiled for n=2: x \[2, 3\]; n=4: x \[4, 3\].*--pad DIMENSION"):
        compiled(np.ones((3, 3), np.float32))


def test_constants_are_once_in_the_library(compiled: Model) -> None:
    row = floats(WORDS, WIDTH)[WORDS // 2].tobytes()
    assert compiled.path.read_bytes().count(row) == 1


def test_the_description_names_each_size(compiled: Model) -> None:
    data = json.loads(compiled.path.with_suffix(".json").read_text())
    assert [row["function"] for row in data["sizes"]] == ["main", "main_1", "main_2", "main_3"]
    assert data["sizes"][1]["dims"] == {"tokens": 4, "batch": 3}
    assert data["sizes"][1]["inputs"][0]["shape"] == [3, 4]
    assert data["padding"] == [{"dim": "tokens", "inputs": {"ids": [1], "mask": [1]}, "outputs": {"y": [1]}}]
    assert load(compiled.path).manifest == compiled.manifest


def test_the_library_names_the_function_for_tensors(compiled: Model) -> None:
    ask = compiled.library.get_function("tesa_function", query_imports=True)
    for size in compiled.sizes:
        given = feeds(size.dims["batch"], size.dims["tokens"])
        assert ask(*compiled.at(size).prepare(given)) == size.function
    with pytest.raises(ValueError, match=r"shapes \[1, 4\] \[1, 4\]; \[3, 4\] \[3, 4\].*and for no others"):
        ask(*build_tensors(compiled, (1, 5)))
    with pytest.raises(TypeError, match="input ids: expected a tensor"):
        ask(1, 2)
    with pytest.raises(TypeError, match=r"the model takes 2 input\(s\): ids, mask"):
        ask(1)


def build_tensors(compiled: Model, shape: tuple[int, ...]) -> list[Any]:
    from tesa.runtime.tensors import from_numpy

    return [from_numpy(np.ones(shape, np.int64)) for _ in compiled.inputs]


def test_verify_compares_every_size_and_one_that_is_filled_up(compiled: Model) -> None:
    result = verify(compiled, compiled.path.with_suffix(".onnx"), per_layer=True)
    assert result.ok
    assert [row.name for row in result.outputs] == [
        *(f"y [tokens={tokens}, batch={batch}]" for tokens in (4, 8) for batch in (1, 3)),
        "y [tokens=7 filled up to tokens=8, batch=3]",
    ]
    assert len({row.name for row in result.layers}) == len(result.layers) > 4
    one = verify(compiled, compiled.path.with_suffix(".onnx"), feeds=feeds(3, 8))
    assert [row.name for row in one.outputs] == ["y"]


def test_verify_tells_where_padding_changes_the_numbers(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "r"), node("ReduceMean", ["r"], "y", axes=[0])]
    proto = model(nodes, [port("x", ["tokens", 3])], ["y"])
    compiled = build(tmp_path, proto, shapes={"tokens": 4}, pad="tokens")
    result = verify(compiled, tmp_path / "model.onnx")
    assert [row.ok for row in result.outputs] == [True, False]


def strided() -> Any:
    nodes = [node("MaxPool", ["x"], "y", kernel_shape=[2], strides=[2])]
    return model(nodes, [port("x", [1, 3, "n"])], ["y"])


@pytest.mark.parametrize(
    ("proto", "options", "message"),
    [
        (attention(), {"pad": ["token"]}, "no dimension 'token' to fill up; .* batch, tokens. Did you mean 'tokens'"),
        (strided(), {"pad": ["n"], "shapes": {"n": 8}}, r"along 'n': output 'y' has 4 elements along its axis 2"),
    ],
)
def test_padding_that_cannot_be(proto: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    shapes = {"shapes": {"tokens": 4, "batch": 1}, **options}
    with pytest.raises(UsageError, match=message):
        compile_model(proto, output=tmp_path / "m.so", measure=False, **shapes)
