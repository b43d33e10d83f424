"""Products with batch axes, vectors and weights on either side are layers of one matrix."""

from __future__ import annotations

import pytest

from tesa.layers import anchor
from tesa.layers.network import to_network
from tests.layers.many import Many


def test_batch_axes_of_activation_and_weight() -> None:
    many = Many()
    for x, w in [
        ((3, 5, 7), (3, 7, 4)), ((5, 7), (3, 7, 4)), ((1, 5, 7), (3, 7, 4)), ((2, 3, 5, 7), (3, 7, 4)),
        ((2, 1, 5, 7), (3, 7, 4)), ((2, 3, 5, 7), (2, 1, 7, 4)), ((2, 1, 5, 7), (1, 3, 7, 4)), ((5, 7), (1, 7, 4)),
        ((2, 3, 5, 7), (7, 4)), ((2, 3, 5, 7), (2, 3, 7, 4)), ((1, 3, 5, 7), (2, 1, 7, 4)), ((7,), (7, 4)),
        ((7,), (3, 7, 4)), ((3, 1, 7), (3, 7, 4)), ((2, 1, 1, 7), (3, 7, 4)), ((2, 5, 7), (3, 1, 7, 4)),
    ]:  # fmt: skip
        many.add("MatMul", x, w)
    many.check()


def test_weights_on_the_left() -> None:
    many = Many()
    for x, w in [
        ((3, 7, 5), (3, 4, 7)), ((7, 5), (3, 4, 7)), ((2, 3, 7, 5), (3, 4, 7)), ((2, 1, 7, 5), (3, 4, 7)),
        ((2, 3, 7, 5), (2, 1, 4, 7)), ((7,), (4, 7)), ((7,), (3, 4, 7)), ((2, 7, 5), (1, 4, 7)), ((7, 5), (4, 7)),
    ]:  # fmt: skip
        many.add("MatMul", x, w, left=True)
    many.check()


@pytest.mark.parametrize("bias", [(4,), (3, 1, 4), (2, 3, 5, 4), (1, 5, 1)])
def test_a_bias_of_the_features_and_blocks_is_absorbed(bias: tuple[int, ...]) -> None:
    many = Many()
    many.add("MatMul", (2, 3, 5, 7), (3, 7, 4), bias=bias)
    (layer,) = many.check().layers
    assert layer.problem.epilogue.bias == (bias in [(4,), (3, 1, 4)])


def test_a_weight_too_large_for_one_matrix_becomes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "LARGEST", 170)
    many = Many()
    many.add("MatMul", (3, 5, 7), (3, 7, 4), bias=(3, 1, 4))
    many.add("MatMul", (2, 3, 7, 5), (3, 4, 7), left=True, bias=(4, 1))
    many.add("MatMul", (2, 5, 7), (2, 3, 1, 7, 2), bias=(2,))
    many.add("MatMul", (5, 7), (9, 7, 2))
    network = many.check(kernels=7)
    assert [layer.name for layer in network.layers][:3] == ["matmul.piece0", "matmul.piece1", "matmul_2.piece0"]
    assert all(layer.problem.epilogue.activation == "relu" for layer in network.layers[:6])


def test_a_batch_entry_too_large_for_one_matrix_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "LARGEST", 100)
    many = Many()
    many.add("MatMul", (2, 3, 5, 7), (2, 3, 7, 4))
    network = to_network(many.proto)
    assert network.layers == ()
    assert "too large for one matrix" in network.skipped[0]


def test_few_columns_of_many_batch_entries_are_one_product() -> None:
    many = Many()
    for x in [(32, 1, 7), (5, 3, 2, 7), (1, 1, 7), (4, 16, 7)]:
        many.add("MatMul", x, (7, 4), bias=(4,))
    layers = many.check().layers
    assert [(layer.problem.batch, layer.problem.n) for layer in layers] == [(1, 32), (1, 30), (1, 1), (4, 16)]
