"""Outputs with memory of their own: none is a view of an input, of a constant, or of another output.

A model may hand on what it is given: an input that it only reshapes, a constant, one tensor under two names. An
application that keeps an output, or writes into it, must not meet its input there, or the weights.
"""

from typing import Any

import tvm
from tvm import relax, te

from tesa.base.loop_names import LOOP, STEP

_OPAQUE = 8  # TVM's operator kind that fusion leaves alone


def emit_outputs(builder: Any, exprs: list[Any]) -> list[Any]:
    """Make each variable an output of the dataflow block by itself, so that no pass turns it into a view later."""
    made: dict[Any, Any] = {}
    results = []
    for expr in exprs:
        if isinstance(expr, relax.Var) and builder.lookup_binding(expr) is not None:
            if expr not in made:
                made[expr] = builder.emit_output(expr)
            expr = made[expr]
        results.append(expr)
    return results


@tvm.transform.module_pass(opt_level=0, name="OwnOutputs")  # type: ignore[untyped-decorator]
def own_outputs(mod: Any, _context: Any) -> Any:
    """Copy the outputs of Relax functions that are an input, a constant, or an output that came before.

    So are states of a loop, which may hand on what it is given; between the functions of a loop nothing is copied. The
    copies stand behind the dataflow block, where TVM takes no copy for a view.
    """
    builder = relax.BlockBuilder(mod)
    for var, function in mod.functions_items():
        if isinstance(function, relax.Function) and not var.name_hint.startswith((LOOP, STEP)):
            builder.update_func(var, _owned(builder, function))
    return builder.get()


def _owned(builder: Any, function: Any) -> Any:
    found = _results(function)
    borrowed = [place for place, expr in enumerate(found) if _is_borrowed(function, found, place, expr)]
    if not borrowed:
        return function
    copies = [relax.Var(f"own{place}", found[place].ty) for place in borrowed]
    bindings = [
        relax.VarBinding(var, _copy(builder, found[place])) for var, place in zip(copies, borrowed, strict=True)
    ]
    owned = dict(zip(borrowed, copies, strict=True))
    results = [owned.get(place, expr) for place, expr in enumerate(found)]
    result = results[0] if hasattr(function.ret_ty, "shape") else relax.Tuple(results)
    body = relax.SeqExpr([*function.body.blocks, relax.BindingBlock(bindings)], result)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)


def _results(function: Any) -> list[Any]:
    """The function's outputs, each as the parameter, the constant or the computed variable that it is in the end."""
    bound = {binding.var: binding.value for block in function.body.blocks for binding in block.bindings}

    def end(expr: Any) -> Any:
        while isinstance(bound.get(expr), relax.Var | relax.Tuple | tvm.ir.GenericConst):
            expr = bound[expr]
        return expr

    result = end(function.body.body)
    return [end(field) for field in result.fields] if isinstance(result, relax.Tuple) else [result]


def _is_borrowed(function: Any, found: list[Any], place: int, expr: Any) -> bool:
    if not isinstance(expr, relax.Var) or expr in list(function.params) or expr in found[:place]:
        return True
    bound = {binding.var: binding.value for block in function.body.blocks for binding in block.bindings}
    value = bound.get(expr)
    loop = bound.get(value.tuple_value) if isinstance(value, relax.TupleGetItem) else None
    return isinstance(getattr(loop, "op", None), tvm.ir.GlobalVar)


def _copy(builder: Any, expr: Any) -> Any:
    shape = [int(extent) for extent in expr.ty.shape]
    source = te.placeholder(shape, str(expr.ty.dtype), name="x")
    copy = te.create_prim_func([source, te.compute(shape, lambda *axes: source(*axes), name="y")])
    name = builder.add_func(copy.without_attr("global_symbol").with_attr("op_pattern", _OPAQUE), "copy")
    return relax.call_tir(name, (expr,), expr.ty)
