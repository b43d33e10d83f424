"""Layers between codes are predicted as they would be compiled: on integers where that is expected to be faster."""

from __future__ import annotations

from tesa.analyze.analysis import analyze_model
from tests.layers.integer import Quantized


def test_integer_layers_are_predicted_as_such() -> None:
    q = Quantized(True)
    d = q.codes(q.input(64, 128), 0.02, 120)
    for _ in range(2):
        d = q.codes(q.op("MatMul", d, q.weight(128, 128, axis=1, density=1)), 0.03, 100)
    proto = q.proto(d)
    found = analyze_model(proto, target="x86:cascadelake", impose=["0.9"])
    assert {row.dense_form for row in found.layers} == {"lanes"}
    assert all(row.sparse is not None and row.sparse.ms <= row.dense.ms for row in found.layers)
