"""Puts chosen kernels into a lowered module: each placeholder call becomes a call of a symbol with its constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tesa.layers.function import PLACEHOLDER


@dataclass(frozen=True)
class Binding:
    """A kernel for a placeholder: called as symbol(x, *before, *rest of the activations' arguments, y).

    constants come right behind x (packed weights), bias behind them; a residual stays last.
    """

    symbol: str
    constants: Sequence[NDArray[Any]]
    bias: NDArray[Any] | None = None


def bind(mod: Any, kernels: Mapping[str, Binding]) -> Any:
    """The module with every placeholder call replaced; kernels goes by placeholder symbol."""
    binder = _Binder(mod, kernels)
    main = mod.get_global_var("main")
    binder.builder_.update_func(main, binder.visit_expr(mod["main"]))
    return binder.builder_.get()


@mutator
class _Binder(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: Any, kernels: Mapping[str, Binding]) -> None:
        super().__init__(mod)
        self.kernels = kernels

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        if getattr(call.op, "name", "") != "relax.call_dps_packed":
            return call
        symbol = str(call.args[0].global_symbol)
        if not symbol.startswith(PLACEHOLDER):
            return call
        kernel = self.kernels[symbol]
        x, *residual = call.args[1].fields
        constants = [relax.const(array) for array in kernel.constants]
        bias = [] if kernel.bias is None else [relax.const(kernel.bias)]
        return relax.call_dps_packed(kernel.symbol, [x, *constants, *bias, *residual], call.ty_args[0])
