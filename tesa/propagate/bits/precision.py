"""Bits: the coarsest grid that each tensor may be rounded to so that no output of the model changes.

**The law of bits.** Replace every tensor by `TeSA.rounded` of it, its rounding to the grid of `quantization` with
`bits` bits, all tensors at once and together with what the law of TeSA replaces: no output of the model changes. A
tensor of real numbers is rounded to scale * (code - zero_point), saturating; one of integers to these numbers rounded
to integers.

There are two reasons for which a tensor may be rounded.
  - Forward: its true values lie on the grid, so rounding does nothing. A quantized tensor holds the codes of its type;
    fewer if its range says so (`ranges`: a clip of the codes, as models with fewer than 8 bits are stored; relu6 before
    the quantization; the numbers of a constant), or if what was quantized is itself on a coarse grid. Movement, relu,
    max pooling and concatenation keep a grid.
  - Backward: whoever reads the tensor rounds it anyway. An operator's `precision` function answers for which rounding R
    of its inputs its outputs, rounded to their own final grids, stay what they are.
Both compose. Take the operators in running order: if each input is its original rounded to its final grid, each output,
once rounded, is its original rounded. A model's output is needed as it is: it is on a grid only for the first reason.

Two roundings in a row are not one. The numbers 0.49 and 0.51 quantized to steps of 1 and then to steps of 2 give 0 and
0; but 1.4 gives 1 and then a tie, 0, where a step of 2 alone gives 2. So of a convolution that is quantized to 7 bits
and then to 4, the 7-bit codes need 4 bits, but the convolution's own result is on the grid of the 7. For codes the
claim is checked on each of them, in the rules of quantize and dequantize. For the same reason two readers that need
different grids get the finer one only if it is the same grid with more range, or if the tensor is on a grid already and
each of its numbers passes the check.

Merging: the lower precision wins; of two grids with equally many bits the one that the values lie on stays. One sweep
forward in running order and one back, whatever order the engine went in before: all that they depend on is final.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Origin, TeSA, merge, unknown
from tesa.attributes.quantization import integer_grid
from tesa.propagate.bits import grids
from tesa.propagate.bits.common_grid import common_grid, nested_grid
from tesa.propagate.bits.constant_grid import constant_grid
from tesa.propagate.bits.intervals import Range
from tesa.propagate.bits.ranges import dtypes, ranges
from tesa.propagate.network import Network, Node
from tesa.propagate.registry import Operator, Precision, Rule

SELECTING: dict[str, Precision] = dict.fromkeys(
    ("relax.nn.relu", "relax.nn.relu6", "relax.clip", "relax.maximum", "relax.minimum"), grids.same_grid
)
CLIPPING = {"relax.nn.relu": (0.0, np.inf), "relax.nn.relu6": (0.0, 6.0)}


def narrow(net: Network, rules: Sequence[Rule | None], tesa: Mapping[str, TeSA]) -> dict[str, TeSA]:
    """The facts with the fewest bits that the law of bits allows. rules: of each node; tesa: all other facts, final."""
    types = dtypes(net)
    whole = {name for name, dtype in types.items() if dtype.startswith(("int", "uint"))}
    sure = {name: grids.undeduced(facts) for name, facts in tesa.items()}
    again = {name for name, facts in tesa.items() if grids.claimed(facts) and not grids.claimed(sure[name])}
    found, _ = ranges(net, sure)
    forward = _Forward(net, sure, whole, found, again).run(rules)
    return _Backward(net, forward, whole, found).run(rules)


class _Forward:
    """Forward: grids from the values, of constants by their numbers, of integers by their range, else by the rules."""

    def __init__(
        self, net: Network, tesa: dict[str, TeSA], whole: set[str], found: Mapping[str, Range], again: set[str]
    ) -> None:
        self.net, self.tesa, self.whole, self.ranges = net, tesa, whole, found
        self.again, self.changed = again, set[str]()

    def run(self, rules: Sequence[Rule | None]) -> dict[str, TeSA]:
        made = {name for node in self.net.nodes for name in node.outputs}
        for name in self.net.shapes:
            if name not in made:
                self._source(name)
        for node, rule in zip(self.net.nodes, rules, strict=True):
            self._node(node, rule)
        return self.tesa

    def _source(self, name: str) -> None:
        """A constant or an input of the model."""
        constant = self.net.constants.get(name)
        if constant is None:
            self._range(name, Origin("", "qdq"))
        elif constant.size > 1 and (constant.dtype.itemsize <= 2 or not self.tesa[name].known.all()):
            self._learn(name, constant_grid(self.tesa[name], constant), Origin("", "weight"))

    def _node(self, node: Node, rule: Rule | None) -> None:
        origin = Origin("", "rule", node.operator.op, node.operator.layer)
        inputs = tuple(self._plain(name, node.operator.op) for name in node.inputs)
        if rule is not None and (self.changed.intersection(node.inputs) or self.again.intersection(node.outputs)):
            for name, found in zip(node.outputs, rule.forward(node.operator, inputs), strict=True):
                self._learn(name, found, origin)
        bounds = _bounds(node.operator)
        if bounds is not None:
            clipped = grids.clipped_grid(self.tesa[node.inputs[0]], *bounds, node.inputs[0] in self.whole)
            self._learn(node.outputs[0], clipped, origin)
        if node.operator.op in ("relax.concat", "relax.stack"):
            self._learn(node.outputs[0], _joined(node.operator, inputs), origin)
        for name in node.outputs:
            self._range(name, origin)

    def _plain(self, name: str, op: str) -> TeSA:
        """The facts as a rule may use them: integers that lie unevenly, for others than dequantize, as all between."""
        t = self.tesa[name]
        q = t.quantization
        if op == "relax.dequantize" or name not in self.whole or q is None or (q.scale == np.rint(q.scale)).all():
            return t
        numbers = grids.codebook(t, integer=True)
        if numbers is None:
            return replace(t, bits=unknown(t.shape).bits, quantization=None)
        return grids.with_grid(t, *integer_grid(float(numbers.min()), float(numbers.max()), len(t.shape)))

    def _range(self, name: str, origin: Origin) -> None:
        """Fewer bits because of the range: of all integers between its ends, or of the grid that is known already."""
        (low, high), t = self.ranges[name], self.tesa[name]
        if t.known.all() and t.value.size == 1:  # one constant, which nobody stores
            return
        self._learn(name, grids.narrowed(t, low, high), origin)
        if name in self.whole and np.isfinite(high - low) and high - low < 2.0 ** (FULL_BITS - 1):
            self._learn(name, grids.only_bits(t.shape, *integer_grid(low, high, len(t.shape))), origin)

    def _learn(self, name: str, found: TeSA | None, origin: Origin) -> None:
        old = self.tesa[name]
        new = lowered(old, found, origin)
        if new is not old:
            self.tesa[name] = new
            self.changed.add(name)


def _bounds(op: Operator) -> Range | None:
    if op.op == "relax.clip":
        return float(op.static[0]), float(op.static[1])
    return CLIPPING.get(op.op)


def _joined(op: Operator, inputs: Sequence[TeSA]) -> TeSA:
    shape = op.outputs[0]
    axis = int(op.attrs["axis"] or 0) % len(shape)
    if op.op == "relax.stack":
        wide = (*shape[:axis], 1, *shape[axis + 1 :])
        inputs = [grids.moved_grid(t, wide, lambda array: np.expand_dims(array, axis)) for t in inputs]
    return grids.joined_grid(inputs, axis, shape)


class _Backward:
    """Backward: grids from the readers of each tensor, which round it anyway."""

    def __init__(self, net: Network, tesa: dict[str, TeSA], whole: set[str], found: Mapping[str, Range]) -> None:
        self.net, self.tesa, self.whole, self.ranges = net, tesa, whole, found
        self.needs: dict[str, list[tuple[TeSA | None, int]]] = {}

    def run(self, rules: Sequence[Rule | None]) -> dict[str, TeSA]:
        for name in self.net.outputs:
            self.needs[name] = [(None, -1)]
        for i in reversed(range(len(self.net.nodes))):
            self._node(i, rules[i])
        made = {name for node in self.net.nodes for name in node.outputs}
        for name in self.net.shapes:
            if name not in made:
                self._settle(name)
        return self.tesa

    def _node(self, i: int, rule: Rule | None) -> None:
        node = self.net.nodes[i]
        for name in node.outputs:
            self._settle(name)
        inputs, outputs = (tuple(self.tesa[n] for n in names) for names in (node.inputs, node.outputs))
        ask = SELECTING.get(node.operator.op) or (rule.precision if rule is not None else None)
        found = ask(node.operator, inputs, outputs) if ask is not None else (None,) * len(inputs)
        for name, t in zip(node.inputs, found, strict=True):
            self.needs.setdefault(name, []).append((t, i))

    def _settle(self, name: str) -> None:
        """All readers of the tensor are known: lower its bits to what they need together."""
        asked = self.needs.get(name, [])
        if not asked:
            return
        total = asked[0][0]
        for other, _ in asked[1:]:
            total = self._both(name, total, other)
        operator = self.net.nodes[asked[0][1]].operator if asked[0][1] >= 0 else None
        if total is not None and operator is not None:
            origin = Origin("", "rule", operator.op, operator.layer)
            self.tesa[name] = lowered(self.tesa[name], grids.narrowed(total, *self.ranges[name]), origin)

    def _both(self, name: str, a: TeSA | None, b: TeSA | None) -> TeSA | None:
        if a is None or b is None:
            return None
        together = common_grid(a, b)
        if together is not None or name in self.whole:
            return together
        return nested_grid(a, b, grids.codebook(self.tesa[name], False))


def lowered(old: TeSA, found: TeSA | None, origin: Origin) -> TeSA:
    """`old` with the bits of `found` where these are fewer, and why; the very same object if they are nowhere."""
    if found is None or not grids.claimed(found) or not (found.bits < old.bits).any():
        return old
    only = replace(unknown(old.shape), bits=found.bits, quantization=found.quantization)
    if grids.claimed(old) and not any(known.fact == "bits" for known in old.origins):
        old = replace(old, origins=old.origins | {Origin("bits", "user")})
    return merge(old, only).growth(old, origin)
