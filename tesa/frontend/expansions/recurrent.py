"""LSTM, GRU and RNN: the products with the inputs of all steps at once, then a Repeat over the steps.

Everything that does not depend on the step before is outside of the loop: x W + b for all steps is one product. A step
adds h R to its slice of it. The two weights are layers of their own, called like the node with .W and .R behind, and
.W_reverse, .R_reverse for the other direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

from tesa.frontend.control.repeat import make_repeat
from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.recurrent_activations import DEFAULTS, Activation, activations_of
from tesa.frontend.quantized import remember


@dataclass
class Cell:
    """Writes the body of the loop: one step of one direction.

    given: the tensors outside that the body reads, by their names in it. n: the hidden size.
    """

    writer: Writer
    direction: int
    n: int
    activations: Sequence[Activation]
    clip: float
    layer: str
    nodes: list[Any] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)

    def add(self, op: str, *inputs: str, name: str = "", **options: Any) -> str:
        """Write a node of the body; the name of its output."""
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name, **options))
        return output

    def several(self, op: str, count: int, *inputs: str) -> list[str]:
        """Write a node of the body with several outputs; their names."""
        outputs = [f"{op.lower()}{len(self.nodes)}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, outputs))
        return outputs

    def read(self, name: str, tensor: str) -> str:
        """Make a tensor outside of the body one that it reads."""
        self.given[name] = tensor
        return name

    def number(self, value: Any, dtype: Any = None) -> str:
        """A constant of the body, of the type of the node's input by default."""
        kind = self.writer.dtypes[self.writer.node.input[0]] if dtype is None else dtype
        tensor = self.writer.constant(value, kind)
        return self.read(f"value{len(self.given)}", tensor)

    def gate(self, x: str, place: int, count: int = 1) -> str:
        """Columns of `count` gates, from gate number `place` on."""
        bounds = (self.number([v], np.int64) for v in (place * self.n, (place + count) * self.n, 1))
        return self.add("Slice", x, *bounds)

    def activate(self, which: int, x: str) -> str:
        """The activation number `which` of this direction, of its input clipped."""
        if self.clip > 0:
            x = self.add("Clip", x, self.number(-self.clip), self.number(self.clip))
        return self.activations[which](self, x)

    def bare(self, which: int, x: str) -> str:
        """The activation of an input that is not clipped."""
        return self.activations[which](self, x)


class Network:
    """A recurrent node in parts: its tensors by direction. gates: the number of gates of its cell."""

    def __init__(self, writer: Writer, gates: int) -> None:
        self.writer, self.gates = writer, gates
        node, options = writer.node, writer.options
        self.batch_first = bool(options.get("layout", 0))
        self.direction = options.get("direction", b"forward").decode()
        self.count = 2 if self.direction == "bidirectional" else 1
        self.x = node.input[0]
        if self.batch_first:
            self.x = writer.add("Transpose", self.x, perm=[1, 0, 2])
        first = writer.shape(node.input[0])
        self.steps, self.batch = (first[1], first[0]) if self.batch_first else first[:2]
        self.hidden = writer.shape(node.input[2])[-1 if writer.node.op_type in DEFAULTS else 1]
        self.dtype = writer.dtypes[node.input[0]]
        self.layer = writer.graph.layers.get(node.output[0] or node.output[-1], node.name or node.op_type.lower())

    def part(self, index: int, direction: int) -> str:
        """Input number `index` of the node for one direction, its first axis; "" where the node has none."""
        if not self.writer.has(index):
            return ""
        name = self.writer.node.input[index]
        value = self.writer.value(name)
        if value is not None:
            return self.writer.constant(value[direction])
        return str(self.writer.add("Gather", name, self.writer.constant(direction, np.int64), axis=0))

    def weight(self, index: int, direction: int) -> str:
        """W (inputs, gates * n) or R (n, gates * n) of one direction, inputs 1 and 2 of the node."""
        name = self.writer.node.input[index]
        value = self.writer.value(name)
        if value is not None:
            return self.writer.constant(np.ascontiguousarray(value[direction].T))
        return str(self.writer.add("Transpose", self.part(index, direction), perm=[1, 0]))

    def biases(self, index: int, direction: int, n: int) -> tuple[str, str]:
        """(of the input, of the hidden state), "" for both where the node has none."""
        name = self.part(index, direction)
        if not name:
            return "", ""
        value = self.writer.value(name)
        width = self.gates * n
        if value is not None:
            return self.writer.constant(value[:width]), self.writer.constant(value[width:])
        bounds = [self.writer.constant([v], np.int64) for v in (0, width, 2 * width)]
        axis = self.writer.constant([0], np.int64)
        first, second = (str(self.writer.add("Slice", name, bounds[i], bounds[i + 1], axis)) for i in (0, 1))
        return first, second

    def state(self, index: int, direction: int, n: int) -> str:
        """(batch, n) the first state, zeros where the node has none."""
        if not self.writer.has(index):
            return self.writer.constant(np.zeros((self.batch, n)), self.dtype)
        name, writer = self.writer.node.input[index], self.writer
        axis = 1 if self.batch_first else 0
        value = writer.value(name)
        if value is not None:
            return writer.constant(np.take(value, direction, axis))
        return str(writer.add("Gather", name, writer.constant(direction, np.int64), axis=axis))

    def name(self, what: str, direction: int) -> str:
        """The layer of a product."""
        return f"{self.layer}.{what}{'_reverse' if direction else ''}"

    def outer(self, weight: str, direction: int) -> str:
        """(steps, batch, gates * n) the inputs of all steps times W, as a layer of its own."""
        made = str(self.writer.add("MatMul", self.x, weight))
        self.writer.layers[made] = self.name("W", direction)
        return made

    def inner(self, cell: Cell, h: str, weight: str, what: str = "R") -> str:
        """In the body: (batch, gates * n) the state of the step before times R, as a layer of its own."""
        return cell.add("MatMul", h, cell.read(what, weight), name=self.name(what, cell.direction))

    def active(self, index: int) -> str:
        """(steps, batch, 1) booleans, false where a sequence has ended; "" where all sequences are of full length."""
        if not self.writer.has(index):
            return ""
        name, writer = self.writer.node.input[index], self.writer
        value = writer.value(name)
        if value is not None:
            writer.reserve(self.steps, self.batch)
            whole = np.asarray(value) >= self.steps
            steps = np.arange(self.steps)[:, None, None]
            return "" if whole.all() else writer.constant(steps < np.asarray(value)[None, :, None])
        wide = writer.add("Reshape", name, writer.constant([1, self.batch, 1], np.int64))
        writer.reserve(self.steps)
        count = writer.constant(np.arange(self.steps)[:, None, None], writer.dtypes[name])
        return str(writer.add("Less", count, wide))

    def loop(
        self, cell: Cell, states: Sequence[str], scanned: Sequence[str], results: Sequence[str], mask: str
    ) -> list[str]:
        """Write the Repeat. results: in the body, the new states. Returns the final states and all first states."""
        names = [f"state{i}" for i in range(len(states))]
        slices = [f"slice{i}" for i in range(len(scanned))]
        new = list(results)
        output = new[0]
        if mask:
            scanned, slices = [*scanned, mask], [*slices, "active"]
            new = [cell.add("Where", "active", now, old) for now, old in zip(new, names, strict=True)]
            output = cell.add("Where", "active", output, cell.number(0))
        final = [cell.add("Identity", name) for name in (*new, output)]
        infos = [helper.make_empty_tensor_value_info(name) for name in (*names, *slices, *cell.given)]
        body = helper.make_graph(cell.nodes, "step", infos, [helper.make_empty_tensor_value_info(n) for n in final])
        outputs = [self.writer.fresh("state") for _ in states] + [self.writer.fresh("steps")]
        backward = self.direction == "reverse" or cell.direction == 1
        node = make_repeat(
            f"{self.layer}{'.reverse' if cell.direction else ''}", body, self.steps, states, scanned,
            list(cell.given.values()), outputs, reverse=[backward] * len(scanned), out_reverse=[backward],
        )  # fmt: skip
        self.writer.nodes.append(node)
        return outputs

    def results(self, found: Sequence[Sequence[str]]) -> list[str]:
        """The outputs of the node: all steps, then each final state. found: by direction, the states and all steps."""
        writer = self.writer
        rows = []
        for kind in (-1, *range(len(found[0]) - 1)):
            axis = 1 if kind == -1 else 0  # all steps are (steps, directions, batch, n), a state (directions, batch, n)
            if self.batch_first:
                axis = 2 if kind == -1 else 1
            parts = [one[kind] for one in found]
            if kind == -1 and self.batch_first:
                parts = [writer.add("Transpose", part, perm=[1, 0, 2]) for part in parts]
            where = writer.constant([axis], np.int64)
            wide = [writer.add("Unsqueeze", part, where) for part in parts]
            rows.append(wide[0] if len(wide) == 1 else writer.add("Concat", *wide, axis=axis))
        return rows

    def cell(self, direction: int, n: int, each: int) -> Cell:
        """The body of one direction to be written. each: activations of a direction."""
        writer = self.writer
        chosen = activations_of(writer, direction, each, self.count)
        return Cell(writer, direction, n, chosen, float(writer.options.get("clip", 0.0)), self.layer)


@expands("LSTM")
def lstm(writer: Writer, node: Any) -> Sequence[str] | None:
    """Four gates (i, o, f, c): C = f C + i c, H = o h(C); peepholes from C to i, o and f."""
    if not _fits(writer):
        return None
    return write_lstm(Network(writer, 4))


def write_lstm(network: Network) -> list[str]:
    """The outputs of an LSTM, whatever its products are."""
    n = network.hidden
    found = []
    for d in range(network.count):
        x = _with_bias(network.writer, network.outer(network.weight(1, d), d), *network.biases(3, d, n))
        cell = network.cell(d, n, 3)
        gates = cell.add("Add", network.inner(cell, "state0", network.weight(2, d)), "slice0")
        results = _lstm_step(network, cell, gates)
        states = [network.state(index, d, n) for index in (5, 6)]
        found.append(network.loop(cell, states, [x], results, network.active(4)))
    return network.results(found)


def _lstm_step(network: Network, cell: Cell, gates: str) -> tuple[str, str]:
    """(H, C) from the sums of all gates, in the body."""
    i, o, f, c = (cell.gate(gates, place) for place in range(4))
    peepholes = network.part(7, cell.direction)
    if peepholes:
        held = cell.read("P", network.writer.add("Unsqueeze", peepholes, network.writer.constant([0], np.int64)))
        for_i, for_o, for_f = (cell.gate(held, place) for place in range(3))
        i = cell.add("Add", i, cell.add("Mul", for_i, "state1"))
        f = cell.add("Add", f, cell.add("Mul", for_f, "state1"))
    i = cell.activate(0, i)
    f = cell.add("Sub", cell.number(1), i) if network.writer.options.get("input_forget", 0) else cell.activate(0, f)
    new = cell.add("Add", cell.add("Mul", f, "state1"), cell.add("Mul", i, cell.activate(1, c)))
    if peepholes:
        o = cell.add("Add", o, cell.add("Mul", for_o, new))
    return cell.add("Mul", cell.activate(0, o), cell.bare(2, new)), new


@expands("GRU")
def gru(writer: Writer, node: Any) -> Sequence[str] | None:
    """Three gates (z, r, h): H = (1 - z) h + z H; r meets H before its product, or with linear_before_reset behind."""
    if not _fits(writer):
        return None
    network = Network(writer, 3)
    n = network.hidden
    return network.results([_gru_direction(network, d, n) for d in range(network.count)])


def _gru_direction(network: Network, d: int, n: int) -> list[str]:
    writer, late = network.writer, bool(network.writer.options.get("linear_before_reset", 0))
    of_input, of_hidden = network.biases(3, d, n)
    x = network.outer(network.weight(1, d), d)
    cell = network.cell(d, n, 2)
    r = network.weight(2, d)
    if late:
        x = _with_bias(writer, x, of_input)
        product = network.inner(cell, "state0", r)
        if of_hidden:
            product = cell.add("Add", product, cell.read("b", of_hidden))
        sums = cell.add("Add", cell.gate(product, 0, 2), cell.gate("slice0", 0, 2))
        z, reset = (cell.activate(0, cell.gate(sums, place)) for place in range(2))
        inner = cell.add("Mul", reset, cell.gate(product, 2))
    else:
        x = _with_bias(writer, x, of_input, of_hidden)
        first, second = _columns(network, r, 0, 2 * n), _columns(network, r, 2 * n, 3 * n)
        product = network.inner(cell, "state0", first)
        sums = cell.add("Add", product, cell.gate("slice0", 0, 2))
        z, reset = (cell.activate(0, cell.gate(sums, place)) for place in range(2))
        held = cell.add("Mul", reset, "state0")
        inner = network.inner(cell, held, second, "Rh")
    h = cell.activate(1, cell.add("Add", inner, cell.gate("slice0", 2)))
    left = cell.add("Mul", cell.add("Sub", cell.number(1), z), h)
    new = cell.add("Add", left, cell.add("Mul", z, "state0"))
    return network.loop(cell, [network.state(5, d, n)], [x], [new], network.active(4))


@expands("RNN")
def rnn(writer: Writer, node: Any) -> Sequence[str] | None:
    """H = f(x W + H R + b)."""
    if not _fits(writer):
        return None
    network = Network(writer, 1)
    n = network.hidden
    found = []
    for d in range(network.count):
        x = _with_bias(writer, network.outer(network.weight(1, d), d), *network.biases(3, d, n))
        cell = network.cell(d, n, 1)
        product = network.inner(cell, "state0", network.weight(2, d))
        new = cell.activate(0, cell.add("Add", product, "slice0"))
        found.append(network.loop(cell, [network.state(5, d, n)], [x], [new], network.active(4)))
    return network.results(found)


def _fits(writer: Writer) -> bool:
    """True where the input, W and R have the three axes that they must have."""
    return all(len(writer.shape(name)) == 3 for name in writer.node.input[:3])


def _with_bias(writer: Writer, x: str, *biases: str) -> str:
    """x plus the biases, of which constant ones are added up."""
    names = [name for name in biases if name]
    values = [value for value in map(writer.value, names) if value is not None]
    if names and len(values) == len(names):
        names = [writer.constant(np.sum(values, axis=0, dtype=values[0].dtype))]
    for name in names:
        x = writer.add("Add", x, name)
    return x


def _columns(network: Network, name: str, begin: int, end: int) -> str:
    writer = network.writer
    value = writer.value(name)
    if value is not None:
        return writer.constant(np.ascontiguousarray(value[:, begin:end]))
    bounds = (writer.constant([v], np.int64) for v in (begin, end, 1))
    return str(writer.add("Slice", name, *bounds))


class Quantized(Network):
    """A DynamicQuantizeLSTM: weights of 8 bits, and inputs and states that are quantized to their own range."""

    def weight(self, index: int, direction: int) -> str:
        """The weight as real numbers: it is stored with its outputs last; scales are one number, or one an output."""
        writer, place = self.writer, 8 + 2 * (index - 1)
        whole, scale, zero = (self.part(i, direction) for i in (index, place, place + 1))
        values = [writer.value(name) for name in (whole, scale)]
        level = writer.value(zero) if zero else np.zeros(1, np.float32)
        if values[0] is None or values[1] is None or level is None:
            raise writer.unsupported("its weights are no constants. Export the model with them in the file")
        array, factor, shift = (np.asarray(value, np.float32) for value in (*values, level))
        name = str(writer.constant((array - shift) * factor, np.float32))
        rows = factor.reshape(1, -1), np.reshape(level, (1, -1))
        remember(writer.graph, name, values[0].dtype, *rows, count=factor.size)
        return name

    def outer(self, weight: str, direction: int) -> str:
        """The inputs of all steps, quantized together, times W."""
        writer = self.writer
        codes = writer.add("DynamicQuantizeLinear", self.x, outputs=3)
        made = str(writer.add("MatMul", writer.add("DequantizeLinear", *codes), weight))
        writer.layers[made] = self.name("W", direction)
        return made

    def inner(self, cell: Cell, h: str, weight: str, what: str = "R") -> str:
        """The state of one step, quantized by itself, times R."""
        real = cell.add("DequantizeLinear", *cell.several("DynamicQuantizeLinear", 3, h))
        return cell.add("MatMul", real, cell.read(what, weight), name=self.name(what, cell.direction))


@expands("com.microsoft::DynamicQuantizeLSTM")
def dynamic_quantize_lstm(writer: Writer, node: Any) -> Sequence[str] | None:
    """An LSTM whose products are of 8-bit numbers."""
    if not _fits(writer):
        return None
    return write_lstm(Quantized(writer, 4))
