"""A small example, or several, for each operator that has a rule: what the exhaustive tests run.

An example is a function from Relax variables to a call, and the inputs of the call: some come at run time, some are
constants with zeros. `node_of` makes the one-operator network of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tesa.propagate.network import Node, build_network

from .example_inputs import Input, fixed, ints, pruned, real, truth
from .examples_move import MOVE_EXAMPLES
from .examples_nn import LAYER_EXAMPLES

Build = Callable[..., Any]
O = relax.op  # noqa: E741
R = real(2, 3, 2)
I = ints(2, 3)  # noqa: E741
B = truth(2, 3)
COLUMN = pruned(1, 3, 1)


@dataclass(frozen=True)
class Example:
    """One operator: `build` of variables that stand for `inputs`. name: the operator with a number."""

    name: str
    op: str
    build: Build
    inputs: tuple[Input, ...]


def node_of(example: Example) -> tuple[Node, Any]:
    """The node of the example and its module. A constant input is a constant of the module."""
    builder = relax.BlockBuilder()
    params = [None if i.content is not None else relax.Var(f"x{k}", i.type) for k, i in enumerate(example.inputs)]
    args = [
        relax.const(i.content, str(i.content.dtype)) if p is None else p
        for p, i in zip(params, example.inputs, strict=True)
    ]
    with builder.function("main", [p for p in params if p is not None]):
        with builder.dataflow():
            out = builder.emit_output(builder.emit(example.build(*args)))
        builder.emit_func_output(out)
    mod = builder.get()
    nodes = [node for node in build_network(mod["main"]).nodes if node.operator.op == example.op]
    if len(nodes) != 1:
        raise ValueError(f"{example.name}: {len(nodes)} calls of {example.op} in {mod.script()}")
    return nodes[0], mod


def _unary(name: str, *inputs: Input) -> tuple[str, Build, tuple[Input, ...]]:
    part: Any = O
    for piece in name.split("."):
        part = getattr(part, piece)
    return name, part, inputs or (R,)


REAL = ["abs", "negative", "square", "exp", "sin", "cos", "tanh", "atan", "asinh", "sinh", "cosh", "floor", "ceil",
        "round", "trunc", "sign", "erf", "sigmoid", "isnan", "isfinite", "isinf", "tan", "nn.relu", "nn.silu",
        "nn.gelu", "nn.gelu_tanh", "nn.selu", "nn.softplus"]  # fmt: skip
POSITIVE = ["sqrt", "rsqrt", "log", "acosh"]
SMALL = ["asin", "acos", "atanh"]
PAIRS = ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "floor_divide", "mod", "floor_mod",
         "less", "greater", "less_equal", "greater_equal", "equal", "not_equal", "log_add_exp", "atan2"]  # fmt: skip
WHOLE_PAIRS = ["add", "subtract", "multiply", "maximum", "minimum", "equal", "less", "bitwise_and", "bitwise_or",
               "bitwise_xor", "floor_divide", "floor_mod"]  # fmt: skip
SHIFTS = ["left_shift", "right_shift"]
TRUTHS = ["logical_and", "logical_or", "logical_xor"]
REDUCTIONS = ["sum", "mean", "max", "min", "prod", "variance", "std"]


def _elementwise() -> list[tuple[str, Build, tuple[Input, ...]]]:
    found = [_unary(name) for name in REAL]
    found += [_unary(name, real(2, 3, low=0.5, high=4)) for name in POSITIVE]
    found += [_unary(name, real(2, 3, low=-0.9, high=0.9)) for name in SMALL]
    found += [_unary("logical_not", B), _unary("bitwise_not", I), _unary("abs", I), _unary("negative", I)]
    for name in PAIRS:
        below = real(2, 3, 2, low=0.5, high=3)
        second = below if name in ("power", "divide", "mod", "floor_mod", "floor_divide") else R
        first = below if name == "power" else R
        divides = name in ("divide", "mod", "floor_mod", "floor_divide", "power")
        part = fixed(np.array([[[0.5], [2.0], [3.0]]], np.float32)) if divides else COLUMN
        found += [_unary(name, first, second), _unary(name, first, part)]
        found += [_unary(name, fixed(np.abs(COLUMN.content)) if name == "power" else COLUMN, second)]
    divisors = {"floor_divide", "floor_mod"}
    found += [_unary(n, I, ints(2, 3, low=1) if n in divisors else I) for n in WHOLE_PAIRS]
    found += [_unary(n, I, ints(1, 3, low=1 if n in divisors else -4)) for n in WHOLE_PAIRS]
    found += [_unary(name, ints(2, 3, low=0), ints(2, 3, low=0)) for name in SHIFTS]
    found += [_unary(name, B, B) for name in TRUTHS] + [
        _unary(n, B, fixed(np.array([True, False, True]))) for n in TRUTHS
    ]
    return found


def _others() -> list[tuple[str, Build, tuple[Input, ...]]]:
    condition = fixed(np.array([[[True], [False], [True]]]))
    scale, zero = fixed(np.float32(0.1)), fixed(np.int8(2))
    scales = fixed(np.array([0.1, 0.2, 0.05], np.float32))
    zeros = fixed(np.array([0, 3, -2], np.int8))
    found: list[tuple[str, Build, tuple[Input, ...]]] = [
        ("clip", lambda x: O.clip(x, -1, 6), (R,)),
        ("clip", lambda x: O.clip(x, 0.5, 6), (R,)),
        ("clip", lambda x: O.clip(x, -np.inf, 0), (R,)),
        ("nn.leakyrelu", lambda x: O.nn.leakyrelu(x, 0.1), (R,)),
        ("nn.prelu", O.nn.prelu, (R, pruned(3))),
        ("nn.prelu", O.nn.prelu, (R, real(3))),
        ("astype", lambda x: O.astype(x, "int32"), (R,)),
        ("astype", lambda x: O.astype(x, "bool"), (R,)),
        ("astype", lambda x: O.astype(x, "float16"), (R,)),
        ("astype", lambda x: O.astype(x, "float32"), (I,)),
        ("astype", lambda x: O.astype(x, "float32"), (B,)),
        ("astype", lambda x: O.astype(x, "int8"), (I,)),
        ("where", O.where, (truth(2, 3, 2), R, R)),
        ("where", O.where, (condition, R, COLUMN)),
        ("where", O.where, (truth(2, 3, 1), R, fixed(np.float32(-np.inf)))),
        ("where", O.where, (truth(2, 3, 2), COLUMN, COLUMN)),
        ("ewise_fma", O.ewise_fma, (R, R, R)),
        ("quantize", lambda x, s, z: O.quantize(x, s, z, -1, "int8"), (R, scale, zero)),
        ("quantize", lambda x, s, z: O.quantize(x, s, z, 1, "int8"), (R, scales, zeros)),
        ("quantize", lambda x, s, z: O.quantize(x, s, z, -1, "int8"), (R, real(1, low=0.1, high=2), zero)),
        ("dequantize", lambda x, s, z: O.dequantize(x, s, z, -1), (ints(2, 3, dtype="int8"), scale, zero)),
        ("dequantize", lambda x, s, z: O.dequantize(x, s, z, 1), (ints(2, 3, 2, dtype="int8"), scales, zeros)),
        ("cumsum", lambda x: O.cumsum(x, 1), (R,)),
        ("cumsum", lambda x: O.cumsum(x), (R,)),
        ("cumsum", lambda x: O.cumsum(x, 1, exclusive=True), (R,)),
        ("cumprod", lambda x: O.cumprod(x, 1), (R,)),
        ("argmax", lambda x: O.argmax(x, 1), (R,)),
        ("argmin", lambda x: O.argmin(x, 1, True), (R,)),
        ("sort", lambda x: O.sort(x, 1), (R,)),
        ("argsort", lambda x: O.argsort(x, 1), (R,)),
        ("topk", lambda x: O.topk(x, 2, 1), (R,)),
        ("median", lambda x: O.median(x, 1), (R,)),
        ("bucketize", O.bucketize, (real(2, 3), fixed(np.array([-1.0, 0.0, 2.0], np.float32)))),
        ("einsum", lambda x, w: O.einsum((x, w), "bij,jk->bik"), (R, pruned(2, 3))),
        ("einsum", lambda x, y: O.einsum((x, y), "bij,bkj->bik"), (R, R)),
        ("einsum", lambda x, y: O.einsum((x, y), "bij,bij->bij"), (R, R)),
        ("einsum", lambda x: O.einsum((x,), "bij->bj"), (R,)),
        ("einsum", lambda x: O.einsum((x,), "ii->i"), (real(3, 3),)),
        ("einsum", lambda x, y: O.einsum((x, y), "ij,j->"), (real(2, 3), pruned(3))),
        ("matmul", O.matmul, (real(2, 3), pruned(3, 4))),
        ("matmul", O.matmul, (pruned(4, 2), real(2, 3))),
        ("matmul", O.matmul, (real(2, 3), real(3, 4))),
        ("matmul", O.matmul, (real(2, 2, 3), pruned(2, 3, 4))),
        ("matmul", O.matmul, (real(2, 2, 3), real(3, 2))),
        ("matmul", O.matmul, (real(3), pruned(3, 2))),
        ("matmul", O.matmul, (real(2, 3), pruned(3))),
        ("matmul", O.matmul, (real(2, 2, 2, 3), real(1, 2, 3, 2))),
        (
            "matmul",
            lambda x, w: O.matmul(x, w, "int32"),
            (ints(2, 3), fixed(np.array([[0, 2], [3, 0], [0, 0]], np.int32))),
        ),
        ("outer", O.outer, (real(3), real(2))),
        ("outer", O.outer, (real(3), pruned(2))),
    ]
    for name in REDUCTIONS:
        part = getattr(O, name)
        found += [
            (name, partial(part, axis=1), (R,)),
            (name, partial(part, axis=(0, 2), keepdims=True), (R,)),
            (name, part, (R,)),
        ]
    found += [(n, partial(getattr(O, n), axis=1), (I,)) for n in ("sum", "max", "min", "prod")]
    return found


def examples() -> dict[str, Example]:
    """By name: the operator and a number."""
    counts: dict[str, int] = {}
    found = {}
    marks = [(name, build, (R,)) for name, build in IDENTITIES.items()]
    for op, build, inputs in [*_elementwise(), *_others(), *LAYER_EXAMPLES, *MOVE_EXAMPLES, *marks]:
        counts[op] = counts.get(op, -1) + 1
        name = f"{op}-{counts[op]}"
        found[name] = Example(name, f"relax.{op}", build, tuple(inputs))
    return found


def _named(name: str) -> Build:
    """A call of an operator that has no function in relax.op."""
    return lambda *args: relax.Call(tvm.ir.Op.get(f"relax.{name}"), list(args))


def _vdevice(x: Any) -> Any:
    return O.to_vdevice(x, relax.VDevice("llvm"))


# Those that TVM has no kernel for. The identities mark something for a compiler.
_REFERENCES: dict[str, Callable[..., Any]] = {
    "relax.ewise_fma": lambda a, b, c: a * b + c,
    "relax.nn.pixel_shuffle": lambda x: x.reshape(1, 1, 2, 2, *x.shape[2:]).transpose(0, 1, 4, 2, 5, 3).reshape(
        1, 1, 2 * x.shape[2], 2 * x.shape[3]
    ),
}  # fmt: skip
IDENTITIES: dict[str, Build] = {
    "builtin.stop_lift_params": _named("builtin.stop_lift_params"),
    "grad.no_grad": _named("grad.no_grad"),
    "grad.start_checkpoint": _named("grad.start_checkpoint"),
    "grad.end_checkpoint": _named("grad.end_checkpoint"),
    "memory.ensure_zero_offset": _named("memory.ensure_zero_offset"),
    "hint_on_device": lambda x: O.hint_on_device(x, tvm.cpu()),
    "to_vdevice": _vdevice,
}


def reference(op: str) -> Callable[..., Any] | None:
    """The operator in NumPy where TVM cannot run it, None where it can."""
    if op.removeprefix("relax.") in IDENTITIES:
        return lambda x: x
    return _REFERENCES.get(op)


__all__ = ["Example", "examples", "node_of", "reference"]
