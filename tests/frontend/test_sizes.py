"""Sizes by the names of inputs and of dimensions: what they come to, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.frontend.sizes import sizes_of

from .onnx_models import model, node, port


def text_model() -> onnx.ModelProto:
    """Two inputs of the same two dimensions, and one of another."""
    inputs = [port("ids", ["batch", "tokens"]), port("mask", ["batch", "tokens"]), port("scale", [1, "width"])]
    nodes = [node("Mul", ["ids", "mask"], "h"), node("ReduceSum", ["scale"], "s"), node("Mul", ["h", "s"], "y")]
    return model(nodes, inputs, ["y"])


def shapes_of(proto: Any, **shapes: Any) -> list[tuple[tuple[int, ...], ...]]:
    return [tuple(size.shapes.values()) for size in sizes_of(proto, shapes)]


def test_every_size_of_a_dimension_goes_with_every_size_of_the_others() -> None:
    found = sizes_of(text_model(), {"tokens": [16, 64], "batch": [1, 8], "width": 3})
    assert [dict(size.dims) for size in found] == [
        {"tokens": tokens, "batch": batch, "width": 3} for tokens in (16, 64) for batch in (1, 8)
    ]
    assert tuple(found[1].shapes.values()) == ((8, 16), (8, 16), (1, 3))
    assert str(found[1]) == "tokens=16, batch=8, width=3"


def test_shapes_of_several_inputs_go_together() -> None:
    found = shapes_of(text_model(), ids=[[1, 16], [2, 8]], mask=[[1, 16], [2, 8]], width=3)
    assert found == [((1, 16), (1, 16), (1, 3)), ((2, 8), (2, 8), (1, 3))]
    with pytest.raises(UsageError, match="go together, but there are 2 for ids, 3 for mask"):
        shapes_of(text_model(), ids=[[1, 16], [2, 8]], mask=[[1, 16], [2, 8], [3, 4]], width=3)


def test_the_shape_of_one_input_holds_for_the_dimensions_of_the_others() -> None:
    assert shapes_of(text_model(), ids=[2, 16], width=3) == [((2, 16), (2, 16), (1, 3))]
    assert shapes_of(text_model(), ids=[2, 16], mask=[1, 16], width=3) == [((2, 16), (1, 16), (1, 3))]
    assert import_onnx(text_model(), shapes={"ids": (2, 16), "width": 3}).inputs[1].shape == (2, 16)


def test_equal_sizes_count_once() -> None:
    assert shapes_of(text_model(), tokens=[16, 16], batch=1, width=[3]) == [((1, 16), (1, 16), (1, 3))]


def test_an_input_goes_before_a_dimension_of_its_name() -> None:
    proto = model([node("Relu", ["tokens"], "y")], [port("tokens", [1, "tokens"])], ["y"])
    assert shapes_of(proto, tokens=[1, 16]) == [((1, 16),)]
    assert shapes_of(proto, **{"dim:tokens": [16, 64]}) == [((1, 16),), ((1, 64),)]
    with pytest.raises(UsageError, match="for the dimension of that name write dim:tokens"):
        shapes_of(proto, tokens=[16, 64, 128])


@pytest.mark.parametrize("dim", [-1, -7, "-1", "?", "", "None"])
def test_negative_and_nameless_dimensions_are_open(dim: Any) -> None:
    proto = model([node("Relu", ["x"], "y")], [port("x", [dim, 3, dim])], ["y"])
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_value = -1
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 3
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_value = -1
    assert shapes_of(proto, x=[1, 3, 4]) == [((1, 3, 4),)]
    assert import_onnx(proto, shapes={"x": (1, 3, 4)}).outputs[0].shape == (1, 3, 4)
    with pytest.raises(UsageError, match=r"not fixed: dimension 0 .*--shape x=1,3,1"):
        sizes_of(proto)
    with pytest.raises(UsageError, match="keep the fixed ones"):
        shapes_of(proto, x=[1, 4, 4])


def test_a_dimension_that_is_named_twice() -> None:
    proto = model([node("Relu", ["x"], "y")], [port("x", ["n", "n"])], ["y"])
    assert shapes_of(proto, n=[2, 3]) == [((2, 2),), ((3, 3),)]
    assert shapes_of(proto, x=[2, 3]) == [((2, 3),)]  # the name binds no one who says it otherwise


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"token": 16}, "no such input and no dimension; its dimensions: batch, tokens, width.*Did you mean 'tokens'"),
        ({"tokens": 0}, "dimension 'tokens' is given the sizes 0; sizes are above 0"),
        ({"tokens": [16, -1]}, "sizes are above 0"),
        ({"tokens": 1.5}, "expected whole numbers"),
        ({"tokens": "16"}, "expected whole numbers"),
        ({"tokens": [[16], 64]}, "expected whole numbers"),
        ({"ids": [1, 16], "tokens": [16, 64], "width": 3}, r"whose dimension 'tokens' is 16 there, but 64 is given"),
        ({"tokens": 16}, r"'ids' is not fixed: dimension 0 \('batch'\) of \['batch', 16\].*or --shape batch=1"),
        ({"tokens": 16, "batch": 1}, r"size of input 'scale' is not fixed.*--shape scale=1,1, or --shape width=1"),
    ],
)
def test_what_is_refused(shapes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sizes_of(text_model(), shapes)


def test_one_size_where_one_is_expected() -> None:
    with pytest.raises(UsageError, match=r"give 2 sizes \(tokens=16, batch=1, width=2; tokens=64"):
        import_onnx(text_model(), shapes={"tokens": [16, 64], "batch": 1, "width": 2})


def test_a_numpy_size_is_a_size() -> None:
    assert shapes_of(text_model(), tokens=np.int64(16), batch=np.array([1]), width=3)[0][0] == (1, 16)
