"""Recognises GELU (Hendrycks and Gimpel, 2016) where an exporter has written it as a chain of operators.

By erf it is x (1 + erf(x sqrt(1/2))) / 2, by tanh x (1 + tanh(c x + c k x^3)) / 2 with c = sqrt(2 / pi) and
k = 0.044715, which is x sigmoid(2 c x + 2 c k x^3). Exporters write the factors in any order, x^3 as a power or as
products. So the chain is read as arithmetic: what a curve gets must be the right polynomial of x, and what becomes of
its result y must be p(x) + q(x) y with the right polynomials p and q.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from onnx import helper

from tesa.frontend.graph import Graph
from tesa.frontend.rewrite import drop_unused

Polynomial = Mapping[int, float]
"""The coefficient of each power of x."""

_C = math.sqrt(2 / math.pi)
_K = 0.044715
_HALF: Polynomial = {1: 0.5}
_CURVES: dict[str, tuple[Polynomial, Polynomial, Polynomial, str]] = {
    "Erf": ({1: math.sqrt(0.5)}, _HALF, _HALF, "none"),
    "Tanh": ({1: _C, 3: _C * _K}, _HALF, _HALF, "tanh"),
    "Sigmoid": ({1: 2 * _C, 3: 2 * _C * _K}, {}, {1: 1.0}, "tanh"),
}
"""By the curve: its argument, p and q, and the kind of GELU."""

_DEEPEST = 8  # operators from x to the curve
_DEGREE = 3
_TOLERANCES = ((ml_dtypes.bfloat16, 8e-3), (np.float16, 1e-3))
"""Of numbers that are all of a 16-bit type, as a file in 16 bits has them, a product of some may be so far off."""


def fuse_gelu(graph: Graph) -> None:
    """Turn GELU, by erf or by tanh, in any order of its factors, into one Gelu node."""
    curves = [n for n in graph.nodes if n.op_type in _CURVES and not n.domain]
    if not curves:
        return
    makers, users = {name: node for node in graph.nodes for name in node.output}, graph.users()
    places = {id(node): i for i, node in enumerate(graph.nodes)}
    for curve in curves:
        found = _find(graph, makers, users, curve)
        if found is not None:
            x, last = found
            kind = _CURVES[curve.op_type][3]
            gelu = helper.make_node("Gelu", [x], [last.output[0]], name=last.name, approximate=kind)
            graph.nodes[places[id(last)]] = makers[last.output[0]] = gelu
            places[id(gelu)] = places[id(last)]
            for name in last.input:
                users[name] = [reader for reader in users[name] if reader is not last]
            users[x].append(gelu)
    drop_unused(graph)


def _find(
    graph: Graph, makers: Mapping[str, Any], users: Mapping[str, list[Any]], curve: Any
) -> tuple[str, Any] | None:
    """x and the node that makes the GELU that a curve is part of."""
    argument, plain, factor, _ = _CURVES[curve.op_type]
    for x in _ancestors(graph, makers, curve.input[0]):
        reader = _Reader(graph, makers, x)
        given = reader.polynomial(curve.input[0])
        if given is None or not reader.alike(given, argument):
            continue
        name = curve.output[0]
        p: Polynomial = {}
        q: Polynomial = {0: 1.0}
        while len(readers := users.get(name, [])) == 1 and readers[0] is not None:
            step = reader.step(readers[0], name, p, q)
            if step is None:
                break
            p, q = step
            name = readers[0].output[0]
            if reader.alike(p, plain) and reader.alike(q, factor):
                return x, readers[0]
    return None


def _ancestors(graph: Graph, makers: Mapping[str, Any], name: str) -> list[str]:
    """The tensors that a tensor is made of by arithmetic, nearest first."""
    found, layer = [], [name]
    for _ in range(_DEEPEST):
        nodes = [makers[n] for n in layer if n in makers and makers[n].op_type in _ARITHMETIC and not makers[n].domain]
        layer = [n for node in nodes for n in node.input if n and n not in graph.constants and n not in found]
        layer = list(dict.fromkeys(layer))
        found += layer
    return found


@dataclass
class _Reader:
    """Reads tensors as polynomials of the tensor x. numbers: the constants that were met."""

    graph: Graph
    makers: Mapping[str, Any]
    x: str
    numbers: list[float] = field(default_factory=list)

    def polynomial(self, name: str, depth: int = _DEEPEST) -> Polynomial | None:
        """A tensor as a polynomial of x, None if it is none."""
        if name == self.x:
            return {1: 1.0}
        array = self.graph.constants.get(name)
        if array is not None:
            if array.size != 1:
                return None
            self.numbers.append(float(array.reshape(())))
            return {0: self.numbers[-1]}
        node = self.makers.get(name)
        if node is None or node.domain or depth == 0 or node.op_type not in _ARITHMETIC:
            return None
        operands = [self.polynomial(operand, depth - 1) for operand in node.input]
        known = [operand for operand in operands if operand is not None]
        return _ARITHMETIC[node.op_type](*known) if len(known) == len(operands) else None

    def step(self, node: Any, name: str, p: Polynomial, q: Polynomial) -> tuple[Polynomial, Polynomial] | None:
        """p and q behind one more node that reads p + q y as `name`; None where that is no such sum."""
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.domain or list(node.input).count(name) != 1:
            return None
        first = node.input[0] == name
        other = self.polynomial(node.input[1 if first else 0])
        if other is None or (node.op_type == "Div" and not first):
            return None
        operate = _ARITHMETIC[node.op_type]
        if node.op_type in ("Mul", "Div"):
            sides = operate(p, other), operate(q, other)
        else:
            sides = operate(p, other) if first else operate(other, p), q if first else operate({}, q)
            sides = (sides[0], q) if node.op_type == "Add" else sides
        return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])

    def alike(self, found: Polynomial, wanted: Polynomial) -> bool:
        """Equal but for rounding: 2e-5, as exporters round, and that of 16 bits where all constants have no more."""
        numbers = np.array(self.numbers)
        rounded = [far for kind, far in _TOLERANCES if (numbers.astype(kind).astype(np.float64) == numbers).all()]
        near = max([2e-5, *rounded])
        powers = {n for n, c in found.items() if c != 0} | set(wanted)
        return all(math.isclose(found.get(n, 0.0), wanted.get(n, 0.0), rel_tol=near) for n in powers)


def _add(a: Polynomial, b: Polynomial) -> Polynomial:
    return {n: a.get(n, 0.0) + b.get(n, 0.0) for n in {*a, *b}}


def _subtract(a: Polynomial, b: Polynomial) -> Polynomial:
    return {n: a.get(n, 0.0) - b.get(n, 0.0) for n in {*a, *b}}


def _multiply(a: Polynomial, b: Polynomial) -> Polynomial | None:
    total: dict[int, float] = {}
    for n, c in a.items():
        for m, d in b.items():
            total[n + m] = total.get(n + m, 0.0) + c * d
    return total if max(total, default=0) <= _DEGREE else None


def _divide(a: Polynomial, b: Polynomial) -> Polynomial | None:
    number = b.get(0, 0.0)
    return {n: c / number for n, c in a.items()} if set(b) == {0} and number else None


def _power(a: Polynomial, b: Polynomial) -> Polynomial | None:
    if set(b) != {0} or b[0] not in (1.0, 2.0, 3.0):
        return None
    result: Polynomial | None = a
    for _ in range(int(b[0]) - 1):
        result = None if result is None else _multiply(result, a)
    return result


_ARITHMETIC: dict[str, Callable[..., Polynomial | None]] = {
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Pow": _power,
    "Neg": lambda a: {n: -c for n, c in a.items()},
    "Identity": lambda a: a,
}
