"""Puts chosen kernels into a lowered module: each placeholder call becomes a call of a symbol with its constants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tesa.frontend.loops import functions_of
from tesa.layers.function import PLACEHOLDER

KERNEL = "tesa.kernel"
"""The attribute of a module's function that is the kernel of a layer: its symbol."""

_OPAQUE = 8
"""TVM's operator pattern of a function that is not to be fused with others."""


@dataclass(frozen=True)
class Binding:
    """A kernel for a placeholder: called as symbol(x, *constants, scale, bias, *rest of the activations' arguments, y).

    constants come right behind x (packed weights), scale and bias behind them; a residual stays last. function: the
    kernel as a function of TVM that becomes one of the module's, None where it is linked and found by its symbol.
    """

    symbol: str
    constants: Sequence[NDArray[Any]]
    bias: NDArray[Any] | None = None
    function: Any = None
    scale: NDArray[Any] | None = None


def bind(mod: Any, kernels: Mapping[str, Binding]) -> Any:
    """The module with every placeholder call in "main" replaced; kernels goes by placeholder symbol."""
    binder = _Binder(mod, kernels)
    for var, function in functions_of(mod):
        binder.builder_.update_func(var, binder.visit_expr(function))
    return binder.builder_.get()


@mutator
class _Binder(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: Any, kernels: Mapping[str, Binding]) -> None:
        super().__init__(mod)
        self.kernels = kernels
        self.functions: dict[str, Any] = {}

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
        rows = [relax.const(array) for array in (kernel.scale, kernel.bias) if array is not None]
        arguments = [x, *constants, *rows, *residual]
        if kernel.function is None:
            return relax.call_dps_packed(kernel.symbol, arguments, call.ty_args[0])
        return relax.call_tir(self._function(kernel), arguments, call.ty_args[0])

    def _function(self, kernel: Binding) -> Any:
        """The kernel's place in the module; layers with the same kernel share it."""
        if kernel.symbol not in self.functions:
            function = kernel.function.with_attr({"op_pattern": _OPAQUE, KERNEL: kernel.symbol})
            self.functions[kernel.symbol] = self.builder_.add_func(function, kernel.symbol)
        return self.functions[kernel.symbol]
