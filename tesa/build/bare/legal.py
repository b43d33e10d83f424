"""Operators that TVM's virtual machine takes from its runtime, as functions; and those that it alone has."""

from collections.abc import Iterable
from typing import Any

import tvm_ffi
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tesa.errors import UnsupportedError
from tesa.layers.function import PLACEHOLDER
from tesa.schedules.cpu.sorting import Sort, sort

_SORTS = ("relax.sort", "relax.argsort", "relax.topk")
_SCANS = ("relax.cumsum", "relax.cumprod", "relax.bucketize")
_KNOWN = (*_SORTS, *_SCANS, "relax.call_tir", "relax.reshape", "relax.memory.view", "relax.memory.ensure_zero_offset")


def with_own_functions(mod: Any, target: Any) -> Any:
    """The module with functions of TVM's language in place of sorts and scans."""
    changer = _Sorts(mod)
    for var, function in mod.functions_items():
        if isinstance(function, relax.Function):
            changer.builder_.update_func(var, changer.visit_expr(function))
    with target:
        return relax.backend.DispatchSortScan()(changer.builder_.get())


@mutator
class _Sorts(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        name = str(getattr(call.op, "name", ""))
        if name not in _SORTS:
            return call
        what = _sort_of(name, call)
        symbol = name.replace("relax.", "tesa_")
        var = self.builder_.add_func(sort(symbol, what).without_attr("global_symbol"), symbol)
        return relax.call_tir(var, [call.args[0]], call.ty if what.values != what.places else list(call.ty.fields))


def _sort_of(name: str, call: Any) -> Sort:
    x, options = call.args[0].ty, call.attrs
    shape = tuple(int(n) for n in x.shape)
    axis = int(options.axis) % len(shape)
    length, dtype = shape[axis], str(x.dtype)
    if name == "relax.sort":
        return Sort(shape, axis, length, dtype, bool(options.descending))
    if name == "relax.argsort":
        return Sort(shape, axis, length, dtype, bool(options.descending), False, True, str(options.dtype))
    wanted = str(options.ret_type)
    count = int(options.k) if int(options.k) > 0 else length
    return Sort(
        shape, axis, min(count, length), dtype, bool(options.largest), wanted != "indices", wanted != "values",
        str(options.dtype),
    )  # fmt: skip


def refuse_what_needs_tvm(mods: Iterable[Any]) -> None:
    """Raise UnsupportedError for a lowered module with operators that nothing but TVM's virtual machine has.

    What it finds, calls_of and lift would refuse later, when all kernels are built.
    """
    for mod in mods:
        found: dict[str, None] = {}

        def note(name: str, found: dict[str, None] = found) -> None:
            found[name] = None

        for _, function in mod.functions_items():
            if isinstance(function, relax.Function):
                relax.analysis.post_order_visit(function, lambda expr: _look(expr, note))
            else:
                tvm_ffi.structural_walk(function.body, [(ir.Call, lambda call: _look_inside(call, note))])
        if found:
            raise UnsupportedError(
                f"{', '.join(found)}: done by TVM's runtime, which is not there without the virtual machine; compile "
                "with --format vm"
            )


def _look(expr: Any, note: Any) -> None:
    if isinstance(expr, relax.If):
        note("a branch that depends on data")
    if not isinstance(expr, ir.Call):
        return
    operator = expr.op
    name = str(getattr(operator, "name", ""))
    if name in ("relax.call_dps_packed", "relax.call_pure_packed", "relax.call_inplace_packed"):
        symbol = str(expr.args[0].global_symbol)
        if not symbol.startswith(PLACEHOLDER):
            note(symbol)
    elif isinstance(operator, relax.ExternFunc):
        note(str(operator.global_symbol))
    elif isinstance(operator, ir.Op) and name not in _KNOWN and not operator.has_attr("FLegalize"):
        note(name)


def _look_inside(call: Any, note: Any) -> None:
    if str(getattr(call.op, "name", "")) in ("tirx.tvm_call_packed", "tirx.tvm_call_trace_packed"):
        note(str(getattr(call.args[0], "value", call.args[0])))
