"""Relax passes right after the import: norms taken apart, constants folded, what nobody reads removed."""

from collections.abc import Iterator
from math import prod
from typing import Any

import tvm
from tvm import relax, tirx

from tesa.base.quiet import quiet
from tesa.errors import ModelError, TesaError, UnsupportedError
from tesa.frontend.giants import ALLOW, GROWTH, largest, readable

LARGE = 500
"""Bindings from which on constants are folded apart: TVM makes a loop nest of every operator to see if it is one."""


def simplify(mod: Any, source: str) -> Any:
    """The module with what depends on constants alone computed. UnsupportedError where that cannot be done."""
    with quiet():
        try:
            taken = [relax.transform.DecomposeOpsForInference(), relax.transform.CanonicalizeBindings()]
            mod = tvm.transform.Sequential(taken)(mod)
            constant = _constant_bindings(mod)
            _check_together(constant, source)
            names = {binding.var.name for binding in constant}
            if names and sum(1 for _ in _bindings(mod)) < LARGE:
                mod = relax.transform.FoldConstant()(mod)
            elif names:
                mod = _folded_apart(mod)
            return relax.transform.DeadCodeElimination()(mod)
        except TesaError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"{source}: the constants of the model cannot be folded. If an operator has constants only as inputs, "
                "fold it while exporting; else export that operator in another way"
            ) from error


def _check_together(constant: list[Any], source: str) -> None:
    """Raise a ModelError where all that would be computed is far more than what it is computed from."""
    held = {arg for b in constant for arg in getattr(b.value, "args", ()) if isinstance(arg, tvm.ir.GenericConst)}
    made = sum(_bytes(binding.var.ty) for binding in constant)
    if made > largest() + GROWTH * sum(_bytes(arg.ty) for arg in held):
        raise ModelError(
            f"{source}: what is computed from constants has {readable(made)} together, far more than the file. Check "
            f"the sizes; {ALLOW}"
        )


def _bytes(ty: Any) -> int:
    """The bytes of a tensor of a type, or of a tuple of them, as far as they are known."""
    if isinstance(ty, relax.TupleType):
        return sum(_bytes(field) for field in ty.fields)
    sides = list(getattr(ty, "shape", None) or ())
    if not isinstance(ty, relax.TensorType) or not all(isinstance(side, tirx.IntImm) for side in sides):
        return 0
    return prod(int(side) for side in sides) * (int(tvm.DataType(str(ty.dtype)).bits) + 7) // 8


def _bindings(mod: Any) -> Iterator[Any]:
    for _, function in mod.functions_items():
        if isinstance(function, relax.Function):
            for block in function.body.blocks:
                yield from block.bindings


def _constant_bindings(mod: Any) -> list[Any]:
    """The bindings that depend on constants alone, in order."""
    known: set[Any] = set()
    found = []
    for binding in _bindings(mod):
        if _is_constant(binding.value, known):
            known.add(binding.var)
            found.append(binding)
    return found


def _is_constant(value: Any, known: set[Any]) -> bool:
    """True for an expression of constants and of variables that are known to be such."""
    if isinstance(value, relax.Var):
        return value in known
    if isinstance(value, relax.TupleGetItem):
        return _is_constant(value.tuple_value, known)
    if isinstance(value, relax.Tuple):
        return all(_is_constant(field, known) for field in value.fields)
    if _size(value) is not None:
        return True
    if isinstance(value, relax.Call):
        plain = isinstance(value.op, tvm.ir.Op) or not isinstance(value.op, relax.Expr)
        return plain and all(isinstance(arg, tvm.ir.GlobalVar) or _is_constant(arg, known) for arg in value.args)
    return isinstance(value, tvm.ir.GenericConst | relax.ShapeExpr) or not isinstance(value, relax.Expr)


def _size(value: Any) -> Any:
    """The shape that a call asks for, where it is known before anything runs; None for any other expression."""
    if not isinstance(value, relax.Call) or getattr(value.op, "name", "") != "relax.shape_of":
        return None
    sides = list(getattr(value.args[0].ty, "shape", None) or ())
    if not sides or not all(isinstance(side, tirx.IntImm) for side in sides):
        return None
    return relax.ShapeExpr([int(side) for side in sides])


def _folded_apart(mod: Any) -> Any:
    """The module with its constant bindings folded in a function of their own, and put back."""
    constant = _constant_bindings(mod)
    renamed = {binding.var: relax.Var(binding.var.name, binding.var.ty) for binding in constant}
    moved = [relax.VarBinding(renamed[b.var], _with(b.value, renamed)) for b in constant]
    results = list(renamed.values())
    alone = relax.SeqExpr([relax.DataflowBlock(moved)], relax.Tuple(results))
    function = relax.Function([], alone, relax.TupleType([var.ty for var in results]))
    own = relax.transform.FoldConstant()(relax.transform.Normalize()(tvm.IRModule({"main": function})))
    values = [binding.value for block in own["main"].body.blocks for binding in block.bindings]
    if len(values) != len(constant):  # taken apart on the way, so that nobody knows which is which
        return relax.transform.FoldConstant()(mod)
    pairs = zip(constant, values, strict=True)
    folded = {binding.var: value for binding, value in pairs if isinstance(value, tvm.ir.GenericConst)}
    new = mod.clone()
    for name, function in mod.functions_items():
        if isinstance(function, relax.Function):
            blocks = []
            for block in function.body.blocks:
                kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
                kept = [relax.VarBinding(b.var, folded.get(b.var, b.value)) for b in block.bindings]
                blocks.append(kind(kept))
            body = relax.SeqExpr(blocks, function.body.body)
            new[name] = relax.Function(list(function.params), body, function.ret_ty, function.is_pure, function.attrs)
    return relax.transform.CanonicalizeBindings()(relax.transform.Normalize()(new))


def _with(value: Any, renamed: Any) -> Any:
    """An expression over other variables, the shapes of tensors in numbers."""
    if (size := _size(value)) is not None:
        return size
    if isinstance(value, relax.Var):
        return renamed.get(value, value)
    if isinstance(value, relax.Tuple):
        return relax.Tuple([_with(field, renamed) for field in value.fields])
    if isinstance(value, relax.TupleGetItem):
        return relax.TupleGetItem(_with(value.tuple_value, renamed), value.index)
    if isinstance(value, relax.Call):
        return relax.Call(value.op, [_with(arg, renamed) for arg in value.args], value.attrs, value.ty_args)
    return value
