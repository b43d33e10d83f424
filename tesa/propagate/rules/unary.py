"""Element-wise operators of one tensor, of any name: each is asked for f(0), and for f of whatever else is known.

That an operator is element-wise is read off its code (kernels.py): every element of the result is one function of the
element in its place, the same function everywhere. So a known constant c passes as f(c), computed by running the
operator itself on the few numbers that are known: relu(0) = 0, sigmoid(0) = 0.5, log(0) = -inf, sqrt(-1) stays unknown.
Nothing is compiled as long as nothing is known. Further inputs may be constants of one element, like a slope.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

from tesa.attributes.attribute import Bools, TeSA, Values, unknown
from tesa.attributes.quantization import code_range
from tesa.base.quiet import quiet_stderr
from tesa.propagate.bits.grids import claimed
from tesa.propagate.executor import CannotRunError, Signature, compile_node, legalized, signature_of
from tesa.propagate.network import Node, build_network
from tesa.propagate.registry import Operator, Rule, family
from tesa.propagate.rules.common import facts
from tesa.propagate.rules.mover import whole
from tesa.propagate.scramble.invariant import wide
from tesa.propagate.tir_analysis import is_elementwise, primfuncs

SUMMARY = (
    "Element-wise: a constant c becomes f(c), which the operator itself is asked for; relu(0) = 0, sigmoid(0) = 0.5."
)
RELU = "relax.nn.relu"  # keeps the grid of a quantized tensor, if 0 is on it
CHUNK = 16  # numbers are asked for in multiples of it, so that few sizes are compiled


def elementwise_rule(node: Node) -> Rule | None:
    """The rule of a node that is an element-wise function of one tensor, None for any other.

    >>> from tvm.relax import BlockBuilder, TensorType, Var, op
    >>> from tesa.attributes.attribute import from_constant
    >>> builder, x = BlockBuilder(), Var("x", TensorType([2], "float32"))
    >>> with builder.function("main", [x]):
    ...     y = builder.emit_func_output(builder.emit(op.cos(x)))
    >>> node = build_network(builder.get()["main"]).nodes[0]
    >>> elementwise_rule(node).forward(node.operator, (from_constant(np.zeros(2, np.float32)),))[0].value
    array([1.])
    """
    operator = node.operator
    data = [i for i, c in enumerate(operator.constants) if c is None or c.size != 1]
    if not data and len(operator.inputs) == 1:
        data = [0]
    if len(data) != 1 or len(operator.outputs) != 1 or operator.outputs[0] != operator.inputs[data[0]]:
        return None
    if 0 in operator.outputs[0] or not _is_elementwise(node, data[0]):
        return None
    asked = _Asked(node, data[0])
    precision = asked.precision if operator.op == RELU else None
    return Rule((operator.op,), SUMMARY, asked.forward, asked.backward, precision=precision)


_ELEMENTWISE: dict[Any, bool] = {}
_PLAIN: dict[Any, bool] = {}
"""The same for calls of tensors alone, by what they say: a deep network has thousands of equal ones."""


def _is_elementwise(node: Node, data: int) -> bool:
    call = node.call
    tensors = call is not None and all(isinstance(arg, relax.Var | tvm.ir.GenericConst) for arg in call.args)
    if not tensors or not isinstance(call.op, tvm.ir.Op) or node.dynamic:
        return _is_judged_elementwise(node, data)
    shapes, types = node.operator.outputs, tuple(str(arg.ty) for arg in call.args)
    key = (call.op.name, repr(node.operator.attrs), shapes, node.operator.dtypes, types, data)
    if key not in _PLAIN:
        _PLAIN[key] = _is_judged_elementwise(node, data)
    return _PLAIN[key]


def _is_judged_elementwise(node: Node, data: int) -> bool:
    try:
        mod = legalized(node)
    except CannotRunError:
        return False
    key = (tvm_ffi.StructuralKey(mod), data)
    if key not in _ELEMENTWISE:
        _ELEMENTWISE[key] = _judge(mod, node.operator.outputs[0], data)
    return _ELEMENTWISE[key]


def _judge(mod: Any, shape: tuple[int, ...], data: int) -> bool:
    """True if every step of "main" is an element-wise PrimFunc on what the input has become."""
    main, functions = mod["main"], primfuncs(mod)
    derived = {main.params[data]}
    scalars = {p for i, p in enumerate(main.params) if i != data}
    bindings = [b for block in main.body.blocks for b in block.bindings]
    for binding in bindings:
        value = binding.value
        if isinstance(value, relax.Var):
            (derived if value in derived else scalars).add(binding.var)
            continue
        if getattr(getattr(value, "op", None), "name", "") != "relax.call_tir" or len(value.args) != 2:
            return False
        args = list(value.args[1].fields)
        places = frozenset(i for i, a in enumerate(args) if a in derived)
        if any(a not in derived and a not in scalars for a in args):
            return False
        if not places or not is_elementwise(functions[value.args[0].name_hint], shape, places):
            return False
        derived.add(binding.var)
    return bool(bindings) and main.body.body in derived


class _Asked:
    """The rule of one node. data: the position of its tensor."""

    def __init__(self, node: Node, data: int) -> None:
        self.node = node
        self.data = data
        self.answers: dict[Any, Values] = {}

    def forward(self, op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
        """f(c) for each known c."""
        x = inputs[self.data]
        like = x if op.op == RELU and _has_zero(x) else None
        if not x.known.any():
            return (facts(op.outputs[0], x.known, np.zeros((1,) * len(x.shape)), like),)
        numbers, where = np.unique(x.value, return_inverse=True)
        key = (numbers.dtype.str, numbers.tobytes())
        if key not in self.answers:
            self.answers[key] = _evaluate(self.node, self.data, signature_of(self.node), numbers)
        value = self.answers[key][where].reshape(x.value.shape)
        return (facts(op.outputs[0], x.known & _sound(op, x.value), value, like),)

    def backward(self, op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
        """An element is needed where the result in its place is; a slope, if anything is."""
        live = outputs[0].live
        return tuple(live if i == self.data else whole(op, i, bool(live.any())) for i in range(len(op.inputs)))

    def precision(self, op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
        """max(x, 0) and rounding to a grid that has 0 may change places, so the grid behind suffices before."""
        need = outputs[0]
        if not claimed(need) or not _has_zero(need):
            return (None,)
        return (replace(unknown(op.inputs[0]), bits=need.bits, quantization=need.quantization),)


def _sound(op: Operator, value: Values) -> Bools:
    """A mask of the results that the output type can hold: another number has no defined result."""
    dtype = op.dtypes[0]
    if value.dtype.kind != "f" or not dtype.startswith(("int", "uint")):
        return np.ones((1,) * value.ndim, bool)
    info = np.iinfo(dtype)
    with np.errstate(invalid="ignore"):
        return np.asarray((value > info.min - 1.0) & (value < info.max + 1.0))


def _evaluate(node: Node, data: int, types: Signature, numbers: Values) -> Values:
    """f of each number. Where float32 is rounded is the model's affair, so it is asked in float64."""
    shape, dtype = types[data]
    named = not node.operator.op.startswith("call")  # an operator of Relax does not mind another shape or type
    size = -(-len(numbers) // CHUNK) * CHUNK
    if named:
        double = "float64" if dtype == "float32" else dtype
        signature = tuple(
            ((size,), double) if i == data else (s, "float64" if d == "float32" else d)
            for i, (s, d) in enumerate(types)
        )
        try:
            return _narrow(_run(node, data, signature, numbers, size), dtype, node.operator.dtypes[0])
        except CannotRunError:
            pass  # not made for float64: ask it as it stands
    return _run(node, data, types, numbers, int(np.prod(shape)))


def _run(node: Node, data: int, signature: Signature, numbers: Values, size: int) -> Values:
    shape, dtype = signature[data]
    program = compile_node(node, signature)
    padded = np.resize(numbers, size).astype(dtype).reshape(shape)
    constants = node.operator.constants
    arrays = [padded if i == data else np.asarray(constants[i]).astype(d) for i, (_, d) in enumerate(signature)]
    return wide(program(arrays)[0].reshape(-1)[: len(numbers)])


def _narrow(found: Values, before: str, after: str) -> Values:
    """Numbers computed in float64 for a float32 operator; what is too small for float32 is 0 there."""
    if before != "float32" or after != "float32":
        return found
    with np.errstate(all="ignore"):
        return np.where(found.astype(np.float32) == 0, 0.0, found)


def _has_zero(t: TeSA) -> bool:
    """True if 0 is a number of the tensor's grid."""
    q = t.quantization
    if q is None:
        return False
    low, high = code_range(q.bits, q.signed)
    zero = np.asarray(q.zero_point)
    return bool(((zero >= low) & (zero <= high)).all())


@family
@cache
def covered() -> Mapping[str, Rule]:
    """The operators of Relax that the rule is for, found by trying it on all of them."""
    found = {}
    with quiet_stderr():
        for name in sorted(tvm.ir.Op.list_op_names()):
            rule = _rule_of(name) if name.startswith("relax.") else None
            if rule is not None:
                found[name] = rule
    return found


def _rule_of(name: str) -> Rule | None:
    """The rule of an operator of Relax on a plain tensor, with whatever arguments it takes; None if it has none."""
    function: Any = relax.op
    for part in name.split(".")[1:]:
        function = getattr(function, part, None)
    op = tvm.ir.Op.get(name)
    if not callable(function) or op.get_attr("FLegalize") is None or not op.get_attr("FPurity"):
        return None
    for dtype in ("float32", "bool", "int32"):
        for extra in ((), ("float32",), (0.0, 1.0)):
            rule = _try(function, dtype, extra)
            if rule is not None:
                return rule
    return None


def _try(function: Any, dtype: str, extra: tuple[Any, ...]) -> Rule | None:
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType([2, 3], dtype))
    try:
        call = builder.normalize(function(x, *extra))
    except Exception:
        return None  # it takes other arguments than these
    return elementwise_rule(_node(x, call)) if isinstance(call, relax.Call) else None


def _node(x: Any, call: Any) -> Node:
    var = relax.Var("y", call.ty)
    block = relax.BindingBlock([relax.VarBinding(var, call)])
    return build_network(relax.Function([x], relax.SeqExpr([block], var), call.ty)).nodes[0]
