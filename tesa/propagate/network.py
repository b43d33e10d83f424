"""A Relax function as a plain network of operators and named tensors, which the engine runs over."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tvm
from tvm import relax

from tesa.attributes.attribute import Shape, Values
from tesa.errors import UnsupportedError
from tesa.frontend.loops import steps_of
from tesa.propagate.registry import Operator

CALLS = {
    "relax.call_tir": "call_tir", "relax.call_tir_inplace": "call_tir", "relax.call_tir_with_grad": "call_tir",
    "relax.call_dps_packed": "call_dps_packed", "relax.call_pure_packed": "call_packed",
    "relax.call_inplace_packed": "call_packed",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """An operator and the names of its tensors. var: the variable it is bound to. call: the Relax call itself.

    functions: the module that the call's functions are in, if it was given. dynamic: a shape is known at run time only.
    """

    operator: Operator
    var: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    call: Any = field(default=None, compare=False, repr=False)
    functions: Any = field(default=None, compare=False, repr=False)
    dynamic: bool = False


@dataclass
class Network:
    """Nodes in running order. A tensor is called like its variable, part i of a tuple `var.i`, a constant `var#i`.

    A constant is a tensor of its own for each use: what is dead in one place may be live in another. aliases: other
    variables that hold the same tensor. dynamic: what is no tensor, or of a shape that is known at run time only; its
    shape here is () and nothing is ever found out about it. softmaxes: the operators that make rows that sum to one, by
    their results.
    """

    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, Values] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    dynamic: set[str] = field(default_factory=set)
    functions: Any = field(default=None, repr=False)
    softmaxes: dict[str, Operator] = field(default_factory=dict, repr=False)


def build_network(func: Any, layers: Mapping[str, str] | None = None, functions: Any = None) -> Network:
    """The network of a Relax function with one straight-line body.

    layers: the layer of a variable, where it is not its name. functions: the module that func is from, needed to run
    what it calls by name. UnsupportedError for control flow.

    An operator is called as in Relax, and one with a function of its own after that: call_tir.NAME (the attribute
    "tesa.op" of the PrimFunc if it has one, else the name of its GlobalVar), call_dps_packed.SYMBOL,
    call_packed.SYMBOL, call.NAME for a Relax function.
    """
    net, parts = Network(functions=functions), {}
    for param in func.params:
        parts[param] = _declare(net, param.name, param.ty)
    for block in func.body.blocks:
        for binding in block.bindings:
            parts[binding.var] = _bind(net, binding, parts, layers or {})
    net.outputs = _flat(func.body.body, parts)
    return net


def whole_network(mod: Any, layers: Mapping[str, str] | None = None) -> Network:
    """The network of a module's "main" and of the bodies of its loops, which stand side by side.

    Nothing is known of what a body reads, all that it gives counts as an output, and nothing of what a loop gives.
    """
    net = build_network(mod["main"], layers, mod)
    for _, func in steps_of(mod):
        body = build_network(func, layers, mod)
        net.nodes += body.nodes
        net.shapes |= body.shapes
        net.constants |= body.constants
        net.outputs += body.outputs
        net.aliases |= body.aliases
        net.dynamic |= body.dynamic
    return net


def _declare(net: Network, name: str, ty: Any) -> tuple[str, ...]:
    if isinstance(ty, relax.TupleType):
        return tuple(n for i, f in enumerate(ty.fields) for n in _declare(net, f"{name}.{i}", f))
    shape = static_shape(ty)
    net.shapes[name] = () if shape is None else shape
    if shape is None:
        net.dynamic.add(name)
    return (name,)


def static_shape(ty: Any) -> Shape | None:
    """The shape of a tensor's type; None for what is no tensor, or of a shape that is known at run time only."""
    dims = getattr(ty, "shape", None) if isinstance(ty, relax.TensorType) else None
    if dims is None or not all(isinstance(n, int | tvm.tirx.IntImm) for n in dims):
        return None
    return tuple(int(n) for n in dims)


def _flat(expr: Any, parts: Mapping[Any, tuple[str, ...]]) -> tuple[str, ...]:
    if isinstance(expr, relax.Var):
        return parts[expr]
    if isinstance(expr, relax.Tuple):
        return tuple(name for f in expr.fields for name in _flat(f, parts))
    return ()


def _bind(net: Network, binding: Any, parts: Mapping[Any, tuple[str, ...]], layers: Mapping[str, str]) -> Any:
    var, value = binding.var, binding.value
    name = var.name
    if isinstance(value, relax.TupleGetItem):
        whole = parts[value.tuple_value]
        size = [width(f) for f in value.tuple_value.ty.fields]
        begin = sum(size[: value.index])
        result = whole[begin : begin + size[value.index]]
    elif isinstance(value, relax.Tuple):
        result = _fields(net, name, value, parts)
    elif isinstance(value, relax.Var):
        result = _flat(value, parts)
    elif isinstance(value, relax.Call):
        return _call(net, var, value, parts, layers.get(name, name))
    elif isinstance(value, tvm.ir.GenericConst):
        net.constants[name] = value.value.numpy()
        return _declare(net, name, var.ty)
    else:
        raise UnsupportedError(f"{layers.get(name, name)}: {type(value).__name__} is control flow, which tesa lacks")
    if len(result) == 1:
        net.aliases[name] = result[0]
    return result


def _fields(net: Network, name: str, value: Any, parts: Mapping[Any, tuple[str, ...]]) -> tuple[str, ...]:
    """The tensors of a tuple; those that are constants, as the parts of one that was cut at import, become known."""
    result: list[str] = []
    for i, part in enumerate(value.fields):
        key = f"{name}.{i}"
        if isinstance(part, relax.Tuple):
            result += _fields(net, key, part, parts)
        elif isinstance(part, tvm.ir.GenericConst):
            net.constants[key] = part.value.numpy()
            result += _declare(net, key, part.ty)
        else:
            result += _flat(part, parts)
    return tuple(result)


def width(ty: Any) -> int:
    """The number of tensors in a type."""
    return sum(width(f) for f in ty.fields) if isinstance(ty, relax.TupleType) else 1


def _call(net: Network, var: Any, call: Any, parts: Mapping[Any, tuple[str, ...]], layer: str) -> tuple[str, ...]:
    names: list[str] = []
    static: list[Any] = []
    for arg in call.args:
        _argument(net, f"{var.name}#", arg, parts, names, static)
    outputs = _declare(net, var.name, var.ty)
    ins, outs = (tuple(net.shapes[n] for n in tensors) for tensors in (names, outputs))
    constants, attrs = tuple(net.constants.get(n) for n in names), _attributes(call.attrs)
    name = operator_name(call, net.functions)
    operator = Operator(name, layer, ins, outs, constants, _dtypes(var.ty), attrs, tuple(static))
    if operator.op == "relax.matmul" and _rows_sum_to_one(net, names[0]):
        operator = replace(operator, attrs={**operator.attrs, "rows_sum_to_one": True})
    if operator.op == "relax.nn.softmax":
        net.softmaxes[outputs[0]] = operator
    dynamic = any(name in net.dynamic for name in (*names, *outputs))
    net.nodes.append(Node(operator, var.name, tuple(names), outputs, call, net.functions, dynamic))
    return outputs


def _rows_sum_to_one(net: Network, name: str) -> bool:
    """True for the output of a softmax along its last axis; the rule of matmul says what follows."""
    maker = net.softmaxes.get(name)
    return maker is not None and int(maker.attrs.get("axis", -1)) in (-1, len(maker.outputs[0]) - 1)


def operator_name(call: Any, functions: Any = None) -> str:
    """The name that a rule is registered under for this call, see `build_network`."""
    if isinstance(call.op, tvm.ir.GlobalVar):
        return f"call.{call.op.name_hint}"
    if isinstance(call.op, relax.ExternFunc):
        return f"call_packed.{call.op.global_symbol}"
    name = getattr(call.op, "name", "")
    callee = call.args[0] if name in CALLS else None
    if isinstance(callee, tvm.ir.GlobalVar):
        body = functions.functions.get(callee) if functions is not None else None
        attrs = getattr(body, "attrs", None) or {}
        return f"call_tir.{attrs.get('tesa.op', callee.name_hint)}"
    if isinstance(callee, relax.ExternFunc):
        return f"{CALLS[name]}.{callee.global_symbol}"
    return name or type(call.op).__name__


def _argument(
    net: Network, prefix: str, arg: Any, parts: Mapping[Any, tuple[str, ...]], names: list[str], static: list[Any]
) -> None:
    """Sort one argument of a call: tensors to names, numbers and shapes to static."""
    if isinstance(arg, tvm.ir.GlobalVar):
        return
    if isinstance(arg, relax.Var):
        names.extend(parts[arg])
    elif isinstance(arg, tvm.ir.GenericConst):
        array = arg.value.numpy()
        key = f"{prefix}{len(names)}"
        net.constants[key], net.shapes[key] = array, array.shape
        names.append(key)
    elif isinstance(arg, relax.Tuple) and any(isinstance(f, relax.Var | tvm.ir.GenericConst) for f in arg.fields):
        for f in arg.fields:
            _argument(net, prefix, f, parts, names, static)
    elif isinstance(arg, relax.Tuple | relax.ShapeExpr):
        fields = arg.fields if isinstance(arg, relax.Tuple) else arg.values
        static.append(tuple(_number(f) for f in fields))
    elif _number(arg) is not None:
        static.append(_number(arg))


def _number(expr: Any) -> Any:
    inner = getattr(expr, "value", None)
    return inner if isinstance(inner, int | float) else getattr(inner, "value", None)


def _dtypes(ty: Any) -> tuple[str, ...]:
    if isinstance(ty, relax.TupleType):
        return tuple(d for f in ty.fields for d in _dtypes(f))
    return (str(getattr(ty, "dtype", "")),)


def _attributes(attrs: Any) -> dict[str, Any]:
    if attrs is None:
        return {}
    info = getattr(type(attrs), "__tvm_ffi_type_info__", None)
    names = [f.name for f in info.fields] if info is not None else []
    return {name: _plain(getattr(attrs, name)) for name in names}


def _plain(value: Any) -> Any:
    number = _number(value)
    if number is not None:
        return number
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    try:
        return tuple(_plain(v) for v in value)
    except TypeError:
        return str(value)
