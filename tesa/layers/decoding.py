"""Numbers are made of codes where they are read: pooling, means, softmax and norms take bytes from memory, not floats.

before:  d = dequantize(codes);  y = softmax_quantize(d)              after:  y = dequantize_softmax_quantize(codes)
TVM's fusion puts nothing in front of such an operator but a plain reduction, and nothing that is read twice in front of
anything. To make a number of a byte is an instruction or two, and its bytes are a quarter: it is repeated for each
operator that reads it. Products of two activations are left alone, they read each element many times.
"""

from typing import Any

import tvm
from tvm import ir, relax, tirx

from tesa.layers.expressions import op_name
from tesa.schedules.cpu.operators import has_blocks, is_product, spatial_steps
from tesa.schedules.cpu.operators.picks import SAMPLES

_MOST_STEPS = 24
"""Arithmetic of an element that is worth repeating for every operator that reads it."""

_BYTES = ("uint8", "int8")


@tvm.transform.module_pass(opt_level=0)  # type: ignore[untyped-decorator, unused-ignore]
def decode_in_place(mod: Any, _context: Any) -> Any:
    """The module, after FuseTIR, with each function that makes numbers of codes put into those that read them."""
    mod = mod.clone() if hasattr(mod, "clone") else mod
    sources = _Sources(mod)
    grouped = _Groups(mod, sources)
    for var, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            grouped.builder_.update_func(var, grouped.visit_expr(function))
    if not grouped.made:
        return mod
    passes = [relax.transform.FuseTIR(), relax.transform.DeadCodeElimination()]
    return tvm.transform.Sequential(passes)(grouped.builder_.get())


class _Sources:
    """Says which functions of a module make numbers of codes, and which may read codes instead of numbers."""

    def __init__(self, mod: Any) -> None:
        self._mod = mod
        self._decodes: dict[str, bool] = {}
        self._reads: dict[str, bool] = {}

    def decodes(self, var: Any) -> bool:
        """True for a function of a few steps from bytes to float32, element by element."""
        if var.name_hint not in self._decodes:
            self._decodes[var.name_hint] = _decodes(self._mod[var])
        return self._decodes[var.name_hint]

    def reads(self, var: Any) -> bool:
        """True for an operator that is still to be scheduled, and no product."""
        if var.name_hint not in self._reads:
            func = self._mod[var]
            self._reads[var.name_hint] = _of_blocks(func) and not is_product(func) and SAMPLES not in func.attrs
        return self._reads[var.name_hint]


def _of_blocks(func: Any) -> bool:
    """True for an operator that is still to be scheduled; those that are loops as they stand, as a scatter, stay so."""
    if not isinstance(func, tirx.PrimFunc) or not func.attrs or not func.attrs.get("s_tir", False):
        return False
    return has_blocks(func)


def _decodes(func: Any) -> bool:
    if not _of_blocks(func):
        return False
    *inputs, output = func.params
    if str(output.dtype) != "float32" or not any(str(array.dtype) in _BYTES for array in inputs):
        return False
    if any(str(array.dtype) not in _BYTES and len(array.shape) > 1 for array in inputs):
        return False
    count = spatial_steps(func)
    return count is not None and count <= _MOST_STEPS


@relax.expr_functor.mutator  # type: ignore[misc, untyped-decorator, unused-ignore]
class _Groups(relax.PyExprMutator):  # type: ignore[misc]
    """Puts calls that decode and a call that reads what they make into functions that FuseTIR makes one of."""

    def __init__(self, mod: Any, sources: _Sources) -> None:
        super().__init__(mod)
        self._mod, self._sources = mod, sources
        self.made = 0

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        if not _is_plain(call) or not self._sources.reads(call.args[0]):
            return call
        arguments = list(call.args[1].fields)
        decoded = {}
        for arg in arguments:
            value = self.lookup_binding(arg) if isinstance(arg, relax.Var) else None
            if value is not None and _is_plain(value) and self._sources.decodes(value.args[0]):
                decoded[arg] = value
        return self._group(call, arguments, decoded) if decoded else call

    def _group(self, call: Any, arguments: list[Any], decoded: dict[Any, Any]) -> Any:
        outer: list[Any] = []
        for arg in arguments:
            for one in decoded[arg].args[1].fields if arg in decoded else [arg]:
                if not any(one.same_as(other) for other in outer):
                    outer.append(one)
        params = [relax.Var(f"p{i}", one.ty) for i, one in enumerate(outer)]

        def inner(one: Any) -> Any:
            return next(param for param, other in zip(params, outer, strict=True) if one.same_as(other))

        builder = relax.BlockBuilder()
        names = [call.args[0].name_hint, *(value.args[0].name_hint for value in decoded.values())]
        with builder.function("main", params, attrs={"Primitive": True}):
            with builder.dataflow():
                made = {}
                for arg, value in decoded.items():
                    fields = [inner(one) for one in value.args[1].fields]
                    made[arg] = builder.emit(relax.call_tir(value.args[0], relax.Tuple(fields), value.ty_args[0]))
                fields = [made[arg] if arg in made else inner(arg) for arg in arguments]
                result = builder.emit_output(relax.call_tir(call.args[0], relax.Tuple(fields), call.ty_args[0]))
            builder.emit_func_output(result)
        self.made += 1
        function = builder.get()["main"].without_attr("global_symbol")
        return relax.Call(self.builder_.add_func(function, "_".join(reversed(names))), outer)


def _is_plain(expr: Any) -> bool:
    """True for a call of one function of the module whose result is one tensor, without other arguments."""
    if not isinstance(expr, relax.Call) or op_name(expr) != "relax.call_tir" or len(expr.args) != 2:
        return False
    return isinstance(expr.args[1], relax.Tuple) and len(expr.ty_args) == 1 and not isinstance(
        expr.ty_args[0], ir.TupleType if hasattr(ir, "TupleType") else ()
    )  # fmt: skip
