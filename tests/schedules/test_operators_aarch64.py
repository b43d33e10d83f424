"""Operators without weights on 64-bit ARM, vectors of four numbers: every rule and function, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax, tirx

from tesa.measure.reference import Reference, activate
from tesa.schedules.cpu.operators import ScheduleOperators, describe
from tesa.schedules.types import Code
from tesa.targets.target import parse_target
from tests.emulated.programs import Case, check, made
from tests.schedules.test_operators import Array, layer_norm, normal, one_function, pool, softmax

TARGET = parse_target("aarch64:cortex-a53")
op, nn = relax.op, relax.op.nn


def whole(name: str, build: Callable[..., Any], arrays: list[Array], wanted: Array, rule: str = "") -> Case:
    """A Relax function as one PrimFunc, scheduled for the target."""
    builder = relax.BlockBuilder()
    names = [relax.Var(f"x{i}", relax.TensorType(a.shape, str(a.dtype))) for i, a in enumerate(arrays)]
    with builder.function("main", names):
        with builder.dataflow():
            result = builder.emit_output(build(builder, *names))
        builder.emit_func_output(result)
    module = one_function(relax.transform.LegalizeOps()(builder.get()), [a.shape for a in arrays])
    for step in ("AnnotateTIROpPattern", "FoldConstant", "FuseOps", "FuseTIR", "DeadCodeElimination"):
        module = getattr(relax.transform, step)()(module)
    module = ScheduleOperators(TARGET.core, 2)(module)
    (function,) = [f for _, f in module.functions_items() if isinstance(f, tirx.PrimFunc)]
    assert describe(function) == rule or (not rule and describe(function) != "none"), (name, describe(function))
    code = Code(function.with_attr("global_symbol", "operator"))
    case = made(name, code, arrays, wanted.shape, str(wanted.dtype))
    size = float(np.max(np.abs(wanted), initial=1.0))
    return Case(**{**vars(case), "wanted": Reference(wanted.astype(np.float64), 3e-5 * size)})


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {
    "exp": (op.exp, np.exp),
    "log": (lambda x: op.log(op.abs(x)), lambda x: np.log(np.abs(x))),
    "sqrt": (lambda x: op.sqrt(op.abs(x)), lambda x: np.sqrt(np.abs(x))),
    "tanh": (op.tanh, np.tanh),
    "sigmoid": (op.sigmoid, lambda x: activate(x.astype(np.float64), "sigmoid")),
    "gelu": (nn.gelu, lambda x: activate(x.astype(np.float64), "gelu")),
    "silu": (nn.silu, lambda x: activate(x.astype(np.float64), "silu")),
    "atan": (op.atan, np.arctan),
    "sinh": (op.sinh, np.sinh),
    "floor": (op.floor, np.floor),
    "relu6": (lambda x: op.clip(x, 0, 6), lambda x: np.clip(x, 0, 6)),
}


def functions() -> list[Case]:
    x = normal((7, 41)) * 4
    return [
        whole(name, lambda bb, a, make=make: bb.emit(make(a)), [x], right(x).astype(np.float32), "elementwise")
        for name, (make, right) in FUNCTIONS.items()
    ]


def rows_and_axes() -> list[Case]:
    x, y = normal((3, 5, 37)), normal((3, 1, 37), 1)
    gain, shift = normal((37,), 2), normal((37,), 3)
    found = [whole("broadcast", lambda bb, a, b: bb.emit(op.add(a, b)), [x, y], x + y, "elementwise")]
    for axis in (0, 1, 2):
        found.append(
            whole(f"softmax {axis}", lambda bb, a, i=axis: bb.emit(nn.softmax(a, axis=i)), [x], softmax(x, axis))
        )
        found.append(whole(f"sum {axis}", lambda bb, a, i=axis: bb.emit(op.sum(a, axis=i)), [x], x.sum(axis)))
        found.append(whole(f"max {axis}", lambda bb, a, i=axis: bb.emit(op.max(a, axis=i)), [x], x.max(axis)))
    found.append(
        whole(
            "layer norm",
            lambda bb, a, g, s: bb.emit(nn.layer_norm(a, g, s, axes=[-1])),
            [x, gain, shift],
            layer_norm(x, 2, gain, shift).astype(np.float32),
        )
    )
    return found


def moves_and_windows() -> list[Case]:
    x, image = normal((3, 18, 29)), normal((1, 5, 9, 11))
    both, swapped = np.concatenate([x, x[:, :7]], 1), (0, 2, 1)
    found = [
        whole("turned", lambda bb, a: bb.emit(op.permute_dims(a, swapped)), [x], x.transpose(swapped), "transpose"),
        whole("heads", lambda bb, a: bb.emit(op.permute_dims(a, (1, 0, 2))), [x], x.transpose(1, 0, 2)),
        whole("concat", lambda bb, a, b: bb.emit(op.concat([a, b], axis=1)), [x, x[:, :7]], both),
    ]
    for kind, make in (("max", nn.max_pool2d), ("avg", nn.avg_pool2d)):
        for kernel, stride in (((3, 3), (2, 2)), ((2, 2), (1, 1))):
            found.append(
                whole(
                    f"{kind} pool {kernel} {stride}",
                    lambda bb, a, make=make, k=kernel, s=stride: bb.emit(make(a, k, s)),
                    [image],
                    pool(image, kernel, stride, (0, 0, 0, 0), kind).astype(np.float32),
                )
            )
    return found


def products() -> list[Case]:
    a, b = normal((2, 19, 23)), normal((2, 23, 30), 1)
    turned = normal((2, 30, 23), 2)
    return [
        whole("matmul", lambda bb, x, y: bb.emit(op.matmul(x, y)), [a, b], a @ b, "matmul"),
        whole(
            "matmul turned",
            lambda bb, x, y: bb.emit(op.matmul(x, bb.emit(op.permute_dims(y, (0, 2, 1))))),
            [a, turned],
            a @ turned.transpose(0, 2, 1),
        ),
    ]


@pytest.mark.parametrize("group", [functions, rows_and_axes, moves_and_windows, products])
def test_operators(group: Callable[[], list[Case]]) -> None:
    check(group(), TARGET, "cortex-a53")
