"""Products of two activations in codes are integer products: bytes times bytes, one number for the scale of all.

before:  s = matmul(dequantize(x), dequantize(y))      after:  i = matmul of (x - zx) and (y - zy) in int32;  s = i * c
c is the product of both scales. Fusion puts what follows, the scale too, behind the product. A core that has no dot
product of bytes multiplies numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.schedules.cpu.operators import (
    describe,
    is_product,
    multiplies_codes,
    product_indices,
    schedule_function,
)
from tesa.schedules.types import Core

_FUSIBLE = 4  # TVM's kind of an operator behind which element-wise ones are fused
_LARGEST = (1 << 31) - 1


def code_products(core: Core) -> Any:
    """The pass, before operators become TIR."""

    @tvm.transform.module_pass(opt_level=0, name="CodeProducts")  # type: ignore[untyped-decorator, unused-ignore]
    def change(mod: Any, _context: Any) -> Any:
        if multiplies_codes(core) is None:
            return mod
        writer = _Products(mod, core)
        for var, function in list(mod.functions_items()):
            if isinstance(function, relax.Function):
                writer.builder_.update_func(var, writer.visit_expr(function))
        return relax.transform.DeadCodeElimination()(writer.builder_.get()) if writer.made else mod

    return change


@relax.expr_functor.mutator  # type: ignore[misc, untyped-decorator, unused-ignore]
class _Products(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: Any, core: Core) -> None:
        super().__init__(mod)
        self._mod, self._core = mod, core
        self.made = 0

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        name = op_name(call)
        if name == "relax.call_tir":
            function = self._mod[call.args[0]] if call.args[0] in self._mod.functions else None
            fields = list(call.args[1].fields) if isinstance(call.args[1], relax.Tuple) else []
            if len(fields) != 2 or function is None or not isinstance(function, tirx.PrimFunc):
                return call
            codes = self._codes(fields)
            if codes is None or not is_product(function):
                return call
            read = product_indices(function)
            return call if read is None else self._integers(call, codes, read)
        if name == "relax.matmul" and str(call.ty.dtype) == "float32":
            shapes = [shape_of(arg) for arg in call.args]
            codes = self._codes(list(call.args))
            if (
                codes is None
                or len(shapes[0]) != len(shapes[1])
                or len(shapes[0]) < 2
                or shapes[0][:-2] != shapes[1][:-2]
            ):
                return call
            return self._integers(call, codes, None)
        return call

    def _codes(self, fields: list[Any]) -> list[tuple[Any, Any, int]] | None:
        """(codes, scale, zero point) of both arguments; None where one is no such dequantized tensor."""
        found = []
        for arg in fields:
            value = self.lookup_binding(arg) if isinstance(arg, relax.Var) else None
            if value is None or op_name(value) != "relax.dequantize" or str(value.args[0].ty.dtype) != "uint8":
                return None
            scale, zero = (constant_of(one) for one in value.args[1:3])
            if (
                scale is None
                or zero is None
                or scale.size != 1
                or zero.size != 1
                or constant_of(value.args[0]) is not None
            ):
                return None
            found.append((value.args[0], np.float32(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])))
        return found

    def _integers(self, call: Any, codes: list[tuple[Any, Any, int]], read: Any) -> Any:
        (x, x_scale, x_zero), (y, y_scale, y_zero) = codes
        shape = [index(n) for n in (call.ty_args[0] if read else call.ty).shape]
        depth = int(read[1]) if read else int(x.ty.shape[-1])
        if depth * 255 * 255 > _LARGEST:
            return call

        def compute(a: Any, b: Any) -> Any:
            k = te.reduce_axis((index(0), index(depth)), name="k")

            def element(*axes: Any) -> Any:
                one, other = read[0](axes, k) if read else ((*axes[:-1], k), (*axes[:-2], k, axes[-1]))
                return te.sum(_less(a[one], x_zero) * _less(b[other], y_zero), k)

            return te.compute(shape, element, name="matmul")

        if not self._fast(compute, (x, y)):
            return call
        scale = tirx.FloatImm("float32", float(np.float32(x_scale * y_scale)))

        def scaled(i: Any) -> Any:
            return te.compute(i.shape, lambda *at: tirx.Cast("float32", i[at]) * scale, name="scaled", tag="elemwise")

        self.made += 1
        product = self.builder_.emit(self.builder_.call_te(
            compute, x, y, primfunc_name_hint="codes_product", primfunc_attrs={"op_pattern": _FUSIBLE}))  # fmt: skip
        return self.builder_.call_te(scaled, product, primfunc_name_hint="scaled")

    def _fast(self, compute: Callable[[Any, Any], Any], arrays: tuple[Any, Any]) -> bool:
        """True where the rule for such products takes it, as the arrays lie."""
        inputs = [
            te.placeholder([index(n) for n in shape_of(array)], "uint8", name)
            for array, name in zip(arrays, "xy", strict=True)
        ]
        func = te.create_prim_func([*inputs, compute(*inputs)]).without_attr("global_symbol")
        return describe(schedule_function(func, self._core)) == "codes_product"


def index(value: Any) -> Any:
    """An index constant."""
    return tirx.IntImm("int64", int(value))


def _less(code: Any, zero: int) -> Any:
    wide = tirx.Cast("int32", code)
    return wide - tirx.IntImm("int32", zero) if zero else wide
