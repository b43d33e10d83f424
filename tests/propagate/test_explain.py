"""explain: the chain from a layer back to the mask, the file or the place that reads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.models import digits_path
from tesa.propagate import TesaModel, propagate
from tesa.propagate.explain import Explanation, Fact, explain
from tesa.propagate.explain.provenance import Provenance
from tests.frontend.onnx_models import floats, model, node, port


def residual(masks: dict[str, Any], **more: Any) -> TesaModel:
    """x -> first -> relu -> second, + x -> skip, -> relu -> last; all 1x1 convolutions with four channels."""
    nodes = [
        node("Conv", ["x", "first.weight"], "first"),
        node("Relu", ["first"], "r1"),
        node("Conv", ["r1", "second.weight", "second.bias"], "second"),
        node("Conv", ["x", "skip.weight"], "skip"),
        node("Add", ["second", "skip"], "sum"),
        node("Relu", ["sum"], "r2"),
        node("Conv", ["r2", "last.weight"], "y", name="last"),
    ]
    constants = {f"{name}.weight": floats(4, 4, 1, 1, seed=i) for i, name in enumerate(("first", "second", "skip"))}
    constants |= {"last.weight": floats(2, 4, 1, 1, seed=9), "second.bias": np.array([0, 1, 2, 3], np.float32), **more}
    return propagate(import_onnx(model(nodes, [port("x", [1, 4, 3, 3])], ["y"], constants), masks=masks))


def outputs(*gone: int) -> Any:
    mask = np.ones((4, 4, 1, 1), bool)
    mask[list(gone)] = False
    return mask


def walk(facts: tuple[Fact, ...]) -> Iterator[Fact]:
    for fact in facts:
        yield fact
        yield from walk(fact.because)


def chain(fact: Fact) -> list[str]:
    """The labels from a fact to the end of its first cause's first cause..."""
    return [fact.label, *(chain(fact.because[0]) if fact.because else [])]


def test_forward_back_to_the_users_mask() -> None:
    found = explain(residual({"first": outputs(0, 2)}), "second")
    assert found.op == "relax.nn.conv2d, relax.add"
    dead = next(f for f in found.facts if (f.label, f.fact) == ("weight of second", "live"))
    assert (dead.text, dead.share) == ("50 % dead", 0.5)
    assert dead.reasons == ("rule relax.nn.conv2d of second",)
    assert chain(dead) == ["weight of second", "output of r1", "output of first", "weight of first"]
    last = list(walk((dead,)))[-1]
    assert (last.text, last.reasons[0]) == ("50 % known to be 0", "the user's mask")


def test_backward_from_a_pruned_reader() -> None:
    mask = np.ones((2, 4, 1, 1), bool)
    mask[:, 1] = False
    found = explain(residual({"last": mask}), "first")
    assert not found.facts  # second mixes the channels of first
    found = explain(residual({"last": mask}), "second")
    labels = [f.label for f in found.facts]
    assert labels == ["weight of second", "constant of second", "output of second"] or len(labels) >= 2
    dead = found.facts[0]
    assert (dead.label, dead.text) == ("weight of second", "25 % dead")
    assert chain(dead)[-3:] == ["output of sum", "output of r2", "weight of last"]
    assert "the user's mask" in list(walk((dead,)))[-1].reasons


def test_a_sum_of_two_names_both_sides() -> None:
    found = explain(residual({"second": outputs(0, 1), "skip": outputs(1, 3)}), "sum")
    zero = next(f for f in found.facts if f.label == "output of sum")
    assert zero.text == "25 % a known constant"  # the bias of second, where both are 0
    assert [f.label for f in zero.because] == ["output of second", "output of skip"]
    leaves = {f.label for f in walk(found.facts) if not f.because}
    assert {"weight of second", "weight of skip"} <= leaves


def test_what_has_no_part_in_it_is_left_out() -> None:
    """The output of second is 0 because of its own mask; that some of its inputs are 0 as well is no cause."""
    found = explain(residual({"first": outputs(0), "second": outputs(0, 1, 2, 3)}), "second")
    inner = next(f for f in walk(found.facts) if f.label == "output of second (before add)")
    assert [f.label for f in inner.because] == ["weight of second"]
    assert inner.because[0].text == "100 % known to be 0"


def test_a_weight_in_the_file_and_a_slice() -> None:
    weight = floats(6, 4)
    weight[:, 3] = 0
    nodes = [
        node("MatMul", ["x", "a.weight"], "a"),
        node("Slice", ["a", "begin", "end", "axes"], "part"),
        node("Relu", ["part"], "y"),
    ]
    constants = {"a.weight": weight, "begin": np.array([2]), "end": np.array([4]), "axes": np.array([1])}
    found = explain(propagate(import_onnx(model(nodes, [port("x", [5, 6])], ["y"], constants))), "a")
    value, live = found.facts[:2]
    assert (value.text, value.reasons) == ("25 % known to be 0", ("the weights of the model",))
    assert (live.text, live.share) == ("50 % dead, beside what is known", 0.5)
    assert live.because[0].label == "output of a"
    assert live.because[0].reasons == ("rule relax.strided_slice of part, which reads only a part of it",)
    assert not live.because[0].because


def test_bits_come_from_the_quantization() -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], "w"), node("MatMul", ["x", "w"], "y", name="fc")]
    constants = {"q": np.arange(-6, 6, dtype=np.int8).reshape(4, 3), "s": np.float32(0.5)}
    found = explain(propagate(import_onnx(model(nodes, [port("x", [2, 4])], ["y"], constants))), "fc")
    bits = next(f for f in found.facts if f.fact == "bits")
    assert bits.label == "weight of fc"
    assert "bits (int" in bits.text
    assert bits.share == 1
    assert "the quantization" in bits.reasons


def digits() -> Explanation:
    """Of the 64 channels 48 are pruned; those whose bias relu6 does not leave 0 are another constant."""
    mask = np.ones((64, 32, 1, 1), bool)
    mask[:48] = False
    return explain(propagate(import_onnx(digits_path(), masks={"block1.pointwise": mask})), "block2.depthwise")


def test_digits_as_text() -> None:
    lines = str(digits()).splitlines()
    assert lines[0] == "block2.depthwise: relax.nn.conv2d, relax.add"
    assert lines[1].startswith("  weight of block2.depthwise: 54.7 % dead  <- rule relax.nn.conv2d of block2.depthwise")
    assert lines[2].startswith("    output of block1.pointwise.relu6: 42.2 % known to be 0, 32.8 % a known constant")
    assert any("weight of block1.pointwise:" in line and "the user's mask" in line for line in lines)
    assert len({len(line) - len(line.lstrip()) for line in lines}) > 4


def test_json_is_the_same_tree() -> None:
    found = digits()
    data = json.loads(json.dumps(found.to_json()))
    assert data["layer"] == "block2.depthwise"
    assert [f["text"] for f in data["facts"]] == [f.text for f in found.facts]

    def count(facts: list[Any]) -> int:
        return sum(1 + count(f["because"]) for f in facts)

    assert count(data["facts"]) == len(list(walk(found.facts)))


def test_depth_is_bounded_and_says_what_is_left_out() -> None:
    model = residual({"first": outputs(0, 2)})
    short = explain(model, "second", depth=1)
    assert "... 2 more facts behind this" in str(short)  # output of first, weight of first
    whole = explain(model, "second")
    assert "more fact" not in str(whole)
    assert len(list(walk(short.facts))) < len(list(walk(whole.facts)))


def test_every_fact_is_told_in_full_once() -> None:
    told = [(f.tensor, f.fact) for f in walk(digits().facts) if not f.seen]
    assert len(told) == len(set(told))
    assert any(f.seen for f in walk(digits().facts))


def test_nothing_known() -> None:
    assert "nothing is known of its tensors" in str(explain(residual({}), "first"))


def test_an_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no layer 'secnd'\. Did you mean 'second'\?"):
        explain(residual({}), "secnd")
    with pytest.raises(UsageError, match="Its layers: first, r1"):
        explain(residual({}), "???")


def test_a_tensor_leads_to_its_layer() -> None:
    model = residual({"first": outputs(0)})
    assert explain(model, "second#1").layer == "second"


def test_causes_are_causes() -> None:
    """Whatever is told to be behind a fact is a fact itself, and around the same operator."""
    model = residual({"first": outputs(0, 1), "second": outputs(2), "skip": outputs(2, 3)})
    causes = Provenance(model)
    for tensor in model.network.shapes:
        for kind in ("value", "live", "bits"):
            for other, what in causes.of((tensor, kind)):
                assert causes.told((other, what))
                near = [n for n in model.network.nodes if tensor in (*n.inputs, *n.outputs)]
                assert any(other in (*n.inputs, *n.outputs) for n in near)
