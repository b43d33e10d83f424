"""Small questions and edits on TIR trees: substitute, collect loads, flat strides. Nothing here knows a rule."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tvm
from tvm import ir, tirx
from tvm.ir.prim import expr_deep_equal
from tvm_ffi import structural_map, structural_walk

INDEX = "int64"


def index(value: int) -> Any:
    """An index constant."""
    return tirx.IntImm(INDEX, value)


def const_int(expr: Any) -> int | None:
    """The value of an integer constant, None for anything else."""
    return int(expr.value) if isinstance(expr, tirx.IntImm) else None


def substitute(root: Any, pairs: Sequence[tuple[Any, Any]]) -> Any:
    """root with each variable replaced by its expression."""

    def replace(var: Any) -> Any:
        for old, new in pairs:
            if var.same_as(old):
                return new
        return var

    return structural_map(root, (ir.Var, replace))


def rewrite(root: Any, kind: Any, change: Callable[[Any], Any]) -> Any:
    """root with change applied to every node of a class, children first."""
    return structural_map(root, (kind, change))


def collect(root: Any, kind: Any) -> list[Any]:
    """Every node of a class (or tuple of classes), children before parents."""
    found: list[Any] = []

    def note(node: Any) -> None:
        found.append(node)

    structural_walk(root, (kind, note))
    return found


def sequence(parts: Sequence[Any]) -> Any:
    """One statement out of several."""
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(list(parts))


def run(start: Any, lanes: int) -> Any:
    """The index of so many neighbouring elements from start on."""
    return start if lanes == 1 else tirx.Ramp(start, index(1), lanes)


def shuffle(vectors: Sequence[Any], picks: Iterable[int]) -> Any:
    """The chosen lanes of vectors laid end to end."""
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", pick) for pick in picks])


def loads(root: Any) -> list[Any]:
    """Every buffer load."""
    return collect(root, ir.TensorLoad)


def mentions(root: Any, var: Any) -> bool:
    """True where a variable, or a buffer, is used."""
    return any(found.same_as(var) for found in collect(root, ir.Var))


def same(a: Any, b: Any) -> bool:
    """Structural equality of two expressions over the same variables."""
    return bool(expr_deep_equal(a, b))


def simplify(expr: Any, ranges: Sequence[tuple[Any, int]] = ()) -> Any:
    """expr simplified, each variable of ranges known to lie in 0..extent - 1."""
    analyzer = tvm.sym.Analyzer()
    for var, extent in ranges:
        analyzer.bind(var, ir.Range(tirx.const(0, var.ty.dtype), tirx.const(extent, var.ty.dtype)))
    return analyzer.simplify(expr)


def flat_index(buffer: Any, indices: Sequence[Any]) -> Any | None:
    """The offset in elements of a compact row-major buffer; None where its shape is symbolic."""
    offset: Any = index(0)
    for size, position in zip(map(const_int, buffer.shape), indices, strict=True):
        if size is None:
            return None
        wide = position if str(position.ty.dtype) == INDEX else tirx.Cast(INDEX, position)
        offset = offset * index(size) + wide
    return offset


def strides(offset: Any, ranges: Sequence[tuple[Any, int]]) -> list[int] | None:
    """The step of offset with each variable; None where it is not linear in them all.

    Variables of extent 1 count as 0 and have stride 0.
    """
    fixed = [(var, tirx.const(0, var.ty.dtype)) for var, extent in ranges if extent == 1]
    offset = simplify(substitute(offset, fixed), ranges)
    return linear(offset, [var for var, _ in ranges])


def linear(offset: Any, variables: Sequence[Any]) -> list[int] | None:
    """Constant coefficients of variables in offset, None where one is not constant."""
    parts = tvm.sym.detect_linear_equation(offset, list(variables))
    if len(parts) == 0:
        return None
    numbers = [const_int(part) for part in parts[:-1]]
    return None if any(n is None for n in numbers) else [n for n in numbers if n is not None]


def function_pass(name: str, change: Callable[[Any], Any]) -> Any:
    """A module pass that applies change to every PrimFunc."""

    def run_pass(module: Any, context: Any) -> Any:
        found = [(key, func) for key, func in module.functions_items() if isinstance(func, tirx.PrimFunc)]
        changed = {key: change(func) for key, func in found}
        module = tvm.IRModule(dict(module.functions_items()), attrs=module.attrs, global_infos=module.global_infos)
        module.update(tvm.IRModule(changed))
        return module

    return tvm.transform.module_pass(run_pass, opt_level=0, name=name)
