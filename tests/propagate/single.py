"""One operator on its own: its rule held against a NumPy function, and that function against TVM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tesa.attributes.attribute import Quantization, TeSA, from_constant, from_weight, unknown
from tesa.propagate.network import Node, build_network
from tesa.propagate.registry import Rule, find

from .execute import execute

Reference = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """An operator to test. make: Relax variables to the call. inputs: for each an array that says shape, type and, of
    an index, its values. reference: NumPy arrays to the output or the list of outputs. moves: it only moves elements of
    input 0, so that the exact answer is known."""

    make: Callable[..., Any]
    inputs: tuple[Any, ...]
    reference: Reference
    moves: bool = False

    def node(self) -> tuple[Node, Any]:
        """The node and its module."""
        builder = relax.BlockBuilder()
        params = [relax.Var(f"p{i}", relax.TensorType(list(a.shape), str(a.dtype))) for i, a in enumerate(self.inputs)]
        with builder.function("main", params):
            out = builder.emit(self.make(*params))
            builder.emit_func_output(out)
        mod = builder.get()
        return build_network(mod["main"]).nodes[-1], mod

    def compute(self, args: Sequence[Any]) -> list[Any]:
        """The outputs by the reference."""
        with np.errstate(all="ignore"):
            result = self.reference(*args)
        return [np.asarray(r) for r in (result if isinstance(result, list | tuple) else [result])]


def const(array: Any) -> Any:
    """A Relax constant with the array's own type."""
    return relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(np.shape(array))))


def rule_of(node: Node) -> Rule:
    """The rule of a node, which must have one."""
    found = find(node.operator.op)
    assert found is not None, node.operator.op
    return found


def tensors(case: Case, node: Node) -> list[Any]:
    """All inputs of the node: the case's arrays with the constants of the call where they stand."""
    left = list(case.inputs)
    return [left.pop(0) if content is None else content for content in node.operator.constants]


def floats(*shape: int, seed: int = 0) -> Any:
    """Small whole numbers as float32: exact under every reduction."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def same(found: Any, expected: Any) -> None:
    """Equal shapes, and equal content to float tolerance, infinities included."""
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(
        np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=1e-5, atol=1e-5, equal_nan=True
    )


def agrees_with_tvm(case: Case) -> None:
    """The reference computes what TVM computes."""
    node, mod = case.node()
    args = tensors(case, node)
    for found, expected in zip(execute(node, args, mod), case.compute(args), strict=True):
        same(found, expected)


def some_facts(rng: Any, array: Any, special: Sequence[float] = (0.0, 1.0)) -> TeSA:
    """Random knowledge about a tensor, short along some axes; values out of `special` or small numbers."""
    short = [n if rng.random() < 0.6 else 1 for n in array.shape]
    known = rng.random(short) < rng.choice([0.0, 0.4, 0.8, 1.0], p=[0.1, 0.4, 0.3, 0.2])
    value = rng.choice([*special, 2.0, -1.0], size=short)
    if array.dtype.kind in "iub":
        value = np.where(np.isfinite(value), value, 0).astype(array.dtype)
    return replace(unknown(array.shape), known=known, value=value)


def some_mask(rng: Any, shape: tuple[int, ...]) -> Any:
    """A random mask over a tensor, short along some axes."""
    return rng.random([n if rng.random() < 0.6 else 1 for n in shape]) < rng.choice([0.2, 0.6, 1.0])


def fill(rng: Any, facts: TeSA, array: Any) -> Any:
    """A tensor that fits the facts: known values where they are known, else anything."""
    kind = np.float64 if array.dtype.kind == "f" else array.dtype
    anything = rng.integers(0 if array.dtype.kind in "ub" else -4, 5, array.shape)
    return np.where(facts.known, facts.value, anything).astype(kind)


def given_facts(rng: Any, case: Case, node: Node, special: Sequence[float]) -> tuple[TeSA, ...]:
    """Facts for all inputs: of float inputs anything; an index is known wholly or not at all; constants are known."""
    rule, facts = rule_of(node), []
    for position, (array, content) in enumerate(zip(tensors(case, node), node.operator.constants, strict=True)):
        if content is not None:
            facts.append(from_weight(content) if position in rule.weights else from_constant(content))
        elif array.dtype.kind in "iu" and position:
            facts.append(from_constant(array) if rng.random() < 0.5 else unknown(array.shape))
        else:
            facts.append(some_facts(rng, array, special))
    return tuple(facts)


def fit(rng: Any, case: Case, node: Node, facts: Sequence[TeSA]) -> list[Any]:
    """Inputs that fit the facts; an index keeps the values of the case, in any order, where it is not known."""
    args = []
    triples = zip(tensors(case, node), node.operator.constants, facts, strict=True)
    for position, (array, content, fact) in enumerate(triples):
        if content is not None:
            args.append(content)
        elif array.dtype.kind in "iu" and position:
            args.append(array if fact.known.all() else rng.permutation(array.reshape(-1)).reshape(array.shape))
        else:
            args.append(fill(rng, fact, array))
    return args


def check(case: Case, seed: int, special: Sequence[float] = (0.0, 1.0)) -> None:
    """What the rule claims of random facts is true: known values, and that what is not needed may be anything."""
    rng = np.random.default_rng(seed)
    node, _ = case.node()
    rule, facts = rule_of(node), given_facts(rng, case, node, special)
    found = rule.forward(node.operator, facts)
    assert [t.shape for t in found] == list(node.operator.outputs)
    live = [some_mask(rng, t.shape) for t in found]
    outputs = tuple(replace(t, live=mask) for t, mask in zip(found, live, strict=True))
    needs = rule.backward(node.operator, facts, outputs)
    assert len(needs) == len(facts)
    for _ in range(3):
        args = fit(rng, case, node, facts)
        results = case.compute(args)
        for t, result in zip(found, results, strict=True):
            known = np.broadcast_to(t.known, result.shape)
            same(np.broadcast_to(t.value, result.shape)[known], result[known])
        other = fit(rng, case, node, [unknown(t.shape) for t in facts])
        mixed = []
        for a, b, need, t in zip(args, other, needs, facts, strict=True):
            np.broadcast_shapes(need.shape, a.shape)
            b = rng.integers(-9, 10, a.shape).astype(a.dtype) if t.known.all() and a.dtype.kind == "f" else b
            mixed.append(np.where(np.broadcast_to(need, a.shape), a, b))
        for result, after, mask in zip(results, case.compute(mixed), live, strict=True):
            here = np.broadcast_to(mask, result.shape)
            same(after[here], result[here])
    if case.moves:
        _check_exact(case, node, facts, outputs, needs)


def _check_exact(case: Case, node: Node, facts: Any, outputs: Any, needs: Any) -> None:
    """A movement finds all: with its indices known, each output knows its source, each source its copies."""
    if any(not t.known.all() for t, a in zip(facts[1:], case.inputs[1:], strict=False) if a.dtype.kind in "iu"):
        return
    args = tensors(case, node)
    data = args[0]
    numbers = np.arange(1, data.size + 1, dtype=np.float64).reshape(data.shape)  # 0 stands for a border of zeros
    needed = np.zeros(data.size + 1, bool)
    known = np.concatenate([[True], np.broadcast_to(facts[0].known, data.shape).reshape(-1)])
    if node.operator.constants[0] is not None:
        known[:] = True
    sources = [s.astype(int) for s in case.compute([numbers, *args[1:]])]
    for source, t in zip(sources, outputs, strict=True):
        assert (known[source] == np.broadcast_to(t.known, source.shape)).all(), "known"
        needed[source[np.broadcast_to(t.live, source.shape)]] = True
    assert (needed[1:].reshape(data.shape) == np.broadcast_to(needs[0], data.shape)).all(), "needed"


def rounded(x: Any, t: TeSA) -> Any:
    """The tensor on the grid of a TeSA, where it needs less than all bits."""
    return t.rounded(np.asarray(x, np.float64), integer=False)


def some_grid(rng: Any, shape: tuple[int, ...], scales: int | None = None) -> TeSA:
    """A tensor of 4 or 8 bits; one scale, or one for each place of a random axis."""
    view = [1] * len(shape)
    if shape and (rng.random() < 0.5 if scales is None else scales > 1):
        axis = int(rng.integers(len(shape)))
        view[axis] = shape[axis]
    scale = rng.choice([0.25, 0.5, 1.0], size=view)
    q = Quantization(int(rng.choice([4, 8])), bool(rng.integers(2)), scale, np.full(view, rng.integers(3), np.int32))
    return replace(unknown(shape), bits=np.full([1] * len(shape), q.bits, np.int8), quantization=q)


def check_bits(case: Case, seed: int) -> int:
    """Forward: what the output is said to need holds it. Backward: rounding first changes nothing. How many grids."""
    rng = np.random.default_rng(seed)
    node, _ = case.node()
    rule, arrays = rule_of(node), tensors(case, node)
    facts = [some_grid(rng, a.shape) if a.dtype.kind == "f" else from_constant(a) for a in arrays]
    args = [rounded(rng.normal(scale=3, size=a.shape), t) if a.dtype.kind == "f" else a
            for a, t in zip(arrays, facts, strict=True)]  # fmt: skip
    found = rule.forward(node.operator, tuple(facts))
    for t, result in zip(found, case.compute(args), strict=True):
        same(rounded(result, t), result)
    outputs = tuple(some_grid(rng, shape) for shape in node.operator.outputs)
    if rng.random() < 0.5:
        outputs = (outputs[0],) * len(outputs) if len(set(node.operator.outputs)) == 1 else outputs
    needs = rule.precision(node.operator, tuple(facts), outputs) if rule.precision else (None,) * len(facts)
    free = [rng.normal(scale=6, size=a.shape) if a.dtype.kind == "f" else a for a in arrays]
    first = [x if need is None else rounded(x, need) for x, need in zip(free, needs, strict=True)]
    for t, a, b in zip(outputs, case.compute(free), case.compute(first), strict=True):
        same(rounded(b, t), rounded(a, t))
    return sum(need is not None for need in needs) + sum(bool((t.bits < 32).any()) for t in found)
