"""Joins the modules of one model in several sizes into one, with a function for each size."""

from collections.abc import Mapping
from typing import Any

from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tesa.frontend.loops import functions_of


def join(mods: Mapping[str, Any]) -> Any:
    """One module whose functions are the "main" of each module, by the name that it is given under.

    Other functions that are equal become one; where two of one name differ, the later one gets another name.

    >>> from tvm import relax
    >>> def double(size):
    ...     builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType([size], "float32"))
    ...     with builder.function("main", [x]):
    ...         y = builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    ...     return builder.get()
    >>> sorted(var.name_hint for var in join({"main": double(2), "main_1": double(3)}).functions)
    ['main', 'main_1']
    """
    if list(mods) == ["main"]:
        return mods["main"]
    builder = relax.BlockBuilder()
    mains = {}
    for name, mod in mods.items():
        # add_func gives back what it knows of an equal function
        renamed = {
            var: builder.add_func(_nameless(function), var.name_hint)
            for var, function in mod.functions_items()
            if not isinstance(function, relax.Function)
        }
        for var, function in functions_of(mod)[:-1]:  # of loops, those that are called first
            renamed[var] = builder.add_func(_nameless(_Renamer(renamed).visit_expr(function)), var.name_hint)
        mains[name] = _Renamer(renamed).visit_expr(mod["main"]).with_attr("global_symbol", name)
    for name, main in mains.items():
        builder.add_func(main, name)
    return builder.get()


def _nameless(function: Any) -> Any:
    return function.without_attr("global_symbol") if "global_symbol" in (function.attrs or {}) else function


@mutator
class _Renamer(PyExprMutator):  # type: ignore[misc]
    def __init__(self, renamed: Mapping[Any, Any]) -> None:
        super().__init__()
        self.renamed = renamed

    def visit_global_var_(self, var: Any) -> Any:
        return self.renamed.get(var, var)
