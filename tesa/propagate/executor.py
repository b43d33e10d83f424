"""Runs single operators of a network on NumPy arrays: each is legalized and compiled for the host, once for each form.

Facts about an operator are found by running it: scramble/ does so with random numbers, rules/unary.py asks for f(0).
The compiled forms are kept for the life of the process, so a network of many equal layers compiles few of them: about
25 ms each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes  # noqa: F401  (lets NumPy name bfloat16 and the like)
import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx

from tesa.attributes.attribute import Shape, Values
from tesa.base.quiet import quiet_stderr
from tesa.errors import UnsupportedError
from tesa.propagate.network import Node, static_shape
from tesa.propagate.tir_analysis import Reading, bounded, primfuncs, read
from tesa.schedules.legalize import legalization

Signature = tuple[tuple[Shape, str], ...]
TARGET = {"kind": "llvm", "opt-level": 1}
PACKED = ("relax.call_dps_packed", "relax.call_pure_packed")


class CannotRunError(UnsupportedError):
    """An operator that cannot be run on its own; the message is the reason, fit to follow "could not be run: "."""


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled operator. Call it with one array for each input of its node; the answer is a tuple of arrays.

    signature: shape and type of each input. fixed: positions of the inputs that are compiled in as constants, what is
    given for them is not looked at. reading: what its code says about it; None where there is no code to look at.
    """

    signature: Signature
    fixed: frozenset[int]
    reading: Reading | None
    function: Callable[..., Any] = field(repr=False)
    vm: Any = field(repr=False)

    def __call__(self, arrays: Sequence[Values]) -> tuple[Values, ...]:
        """Run it. CannotRunError if the operator itself raises one."""
        args = [
            tvm.runtime.tensor(np.asarray(a, dtype).reshape(shape, copy=False) if a.ndim else np.array(a, dtype))
            for i, (a, (shape, dtype)) in enumerate(zip(arrays, self.signature, strict=True))
            if i not in self.fixed
        ]
        try:
            return tuple(np.array(leaf.numpy()) for leaf in _leaves(self.function(*args)))
        except Exception as error:
            raise CannotRunError(_first_line(error)) from error


def compile_node(node: Node, signature: Signature | None = None) -> Program:
    """The program of a node, compiled at most once for each operator, attributes and types.

    signature: other shapes and types than those of the node's inputs, for an operator that does not care. Indices that
    come out of a tensor are clamped into their axis, so that no input makes a program crash. CannotRunError for an
    operator with a side effect, without code, or with a shape that is known at run time only.

    >>> from tvm.relax import BlockBuilder, TensorType, Var, op
    >>> from tesa.propagate.network import build_network
    >>> builder, x = BlockBuilder(), Var("x", TensorType([3], "float32"))
    >>> with builder.function("main", [x]):
    ...     y = builder.emit_func_output(builder.emit(op.erf(x)))
    >>> node = build_network(builder.get()["main"]).nodes[0]
    >>> compile_node(node)([np.zeros(3, np.float32)])
    (array([0., 0., 0.], dtype=float32),)
    """
    _check_runnable(node)
    types = signature_of(node) if signature is None else signature
    try:
        return _compile(node, types, frozenset())
    except CannotRunError:
        constants = frozenset(i for i, c in enumerate(node.operator.constants) if c is not None)
        if not constants:
            raise
        return _compile(node, types, constants)


def legalized(node: Node, signature: Signature | None = None) -> Any:
    """The module with the PrimFuncs that a node comes down to; "main" calls them. CannotRunError if there are none."""
    _check_runnable(node)
    return _legalize(_wrap(node, signature_of(node) if signature is None else signature, frozenset()))


def signature_of(node: Node) -> Signature:
    """Shape and type of each input of a node. CannotRunError if one is not static or no tensor."""
    return tuple(found for arg in node.call.args for found in _tensor_types(arg))


def has_side_effect(node: Node) -> bool:
    """True if running the operator does more than to compute its outputs, or may: it is never run then."""
    op = node.call.op
    if isinstance(op, tvm.ir.Op):
        inplace = op.name in ("relax.call_inplace_packed", "relax.call_tir_inplace")
        return inplace or not bool(op.get_attr("FPurity"))
    if isinstance(op, tvm.ir.GlobalVar):
        callee = node.functions.functions.get(op) if node.functions is not None else None
        return not bool(getattr(callee, "is_pure", False))
    return True


def _check_runnable(node: Node) -> None:
    if node.call is None:
        raise CannotRunError("it has no Relax call")
    if has_side_effect(node):
        raise CannotRunError("it has a side effect")
    if node.dynamic:
        raise CannotRunError("a shape is known at run time only")
    if any(0 in shape for shape in (*node.operator.inputs, *node.operator.outputs)):
        raise CannotRunError("a tensor of it has no elements")
    if not node.outputs:
        raise CannotRunError("it has no output")
    symbol = packed_symbol(node)
    if symbol is not None and tvm.get_global_func(symbol, allow_missing=True) is None:
        raise CannotRunError(f"no function {symbol!r} is registered in this process")


def packed_symbol(node: Node) -> str | None:
    """The symbol of the packed function that the node calls, None if it calls none."""
    if getattr(node.call.op, "name", "") not in PACKED:
        return None
    return str(node.call.args[0].global_symbol)


_PROGRAMS: dict[Any, Program | CannotRunError] = {}


def _compile(node: Node, types: Signature, fixed: frozenset[int]) -> Program:
    wrapped = _wrap(node, types, fixed)
    key = (tvm_ffi.StructuralKey(wrapped), types, fixed)
    if key not in _PROGRAMS:
        try:
            _PROGRAMS[key] = _build(_legalize(wrapped), types, fixed, packed_symbol(node) is not None)
        except CannotRunError as error:
            _PROGRAMS[key] = error
    found = _PROGRAMS[key]
    if isinstance(found, CannotRunError):
        raise found
    return found


def _build(mod: Any, types: Signature, fixed: frozenset[int], packed: bool) -> Program:
    reading = None if packed else _read(mod, len(types) - len(fixed), fixed)
    safe = tvm.IRModule({g: bounded(f) if isinstance(f, tirx.PrimFunc) else f for g, f in mod.functions.items()})
    try:
        with quiet_stderr():
            vm = relax.VirtualMachine(tvm.compile(safe, tvm.target.Target(TARGET)), tvm.cpu())
    except Exception as error:
        raise CannotRunError(f"it does not compile: {_first_line(error)}") from error
    return Program(types, fixed, reading, vm["main"], vm)


def _read(mod: Any, count: int, fixed: frozenset[int]) -> Reading:
    """The Reading of all PrimFuncs of a module together. places: positions of the node's inputs, all if unclear."""
    readings = [read(func) for func in primfuncs(mod).values()]
    indirect = any(r.indirect for r in readings)
    steps = sum(r.steps for r in readings)
    numbers = tuple(sorted({n for r in readings for n in r.numbers}))
    places = frozenset(range(count + len(fixed))) if indirect else frozenset()
    calls = [b.value for block in mod["main"].body.blocks for b in block.bindings]
    if indirect and len(calls) == 1 == len(readings) and not fixed:
        args = calls[0].args[1].fields if len(calls[0].args) > 1 else ()
        if len(args) == count and all(a.same_as(p) for a, p in zip(args, mod["main"].params, strict=True)):
            places = readings[0].places
    return Reading(indirect, places, steps, numbers)


def _wrap(node: Node, types: Signature, fixed: frozenset[int]) -> Any:
    """A module whose "main" is the call of the node with parameters in place of its tensors."""
    constants = node.operator.constants
    params = [relax.Var(f"p{i}", relax.TensorType(list(shape), dtype)) for i, (shape, dtype) in enumerate(types)]
    given = [relax.const(constants[i]) if i in fixed else param for i, param in enumerate(params)]
    call = relax.Call(node.call.op, [_swap(a, given) for a in node.call.args], node.call.attrs, node.call.ty_args)
    builder = relax.BlockBuilder(tvm.IRModule(_reachable(node)))
    try:
        with quiet_stderr(), builder.function("main", [p for i, p in enumerate(params) if i not in fixed]):
            with builder.dataflow():
                out = builder.emit_output(call)
            builder.emit_func_output(out)
        return builder.get()
    except Exception as error:
        raise CannotRunError(f"it does not stand on its own: {_first_line(error)}") from error


def _reachable(node: Node) -> dict[Any, Any]:
    """The functions of the module that the call needs."""
    found: dict[Any, Any] = {}
    waiting: list[Any] = [node.call.op, *node.call.args]
    while waiting:
        met: list[Any] = []
        tvm_ffi.structural_walk(waiting.pop(), [(tvm.ir.GlobalVar, met.append)])
        for var in met:
            callee = node.functions.functions.get(var) if node.functions is not None else None
            if callee is None:
                raise CannotRunError(f"its function {var.name_hint!r} is not at hand; give build_network the module")
            if var not in found:
                found[var] = callee
                waiting.append(callee)
    return found


def _legalize(mod: Any) -> Any:
    try:
        with quiet_stderr(), tvm.target.Target(TARGET):
            return relax.transform.LegalizeOps(legalization())(mod)
    except Exception as error:
        raise CannotRunError(f"Relax does not legalize it: {_first_line(error)}") from error


def _swap(arg: Any, given: list[Any]) -> Any:
    """The argument with the given expressions in place of its tensors, in the order of build_network."""
    if isinstance(arg, tvm.ir.GenericConst):
        return given.pop(0)
    if isinstance(arg, relax.Var):
        return _like(arg.ty, given)
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([_swap(f, given) for f in arg.fields])
    return arg


def _like(ty: Any, given: list[Any]) -> Any:
    return relax.Tuple([_like(f, given) for f in ty.fields]) if isinstance(ty, relax.TupleType) else given.pop(0)


def _tensor_types(arg: Any) -> Iterator[tuple[Shape, str]]:
    if isinstance(arg, tvm.ir.GenericConst):
        yield tuple(arg.value.shape), str(arg.value.dtype)
    elif isinstance(arg, relax.Var):
        yield from _leaf_types(arg.ty)
    elif isinstance(arg, relax.Tuple):
        for part in arg.fields:
            yield from _tensor_types(part)


def _leaf_types(ty: Any) -> Iterator[tuple[Shape, str]]:
    shape = static_shape(ty)
    if isinstance(ty, relax.TupleType):
        for part in ty.fields:
            yield from _leaf_types(part)
    elif shape is not None:
        yield shape, str(ty.dtype)
    else:
        raise CannotRunError("an argument of it is no tensor of static shape")


def _leaves(result: Any) -> list[Any]:
    return [result] if hasattr(result, "numpy") else [leaf for part in result for leaf in _leaves(part)]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
