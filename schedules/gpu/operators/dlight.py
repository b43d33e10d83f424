"""The rules of TVM's dlight, as this package asks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import s_tir
from tvm.s_tir.dlight import gpu as rules

from tesa.schedules.gpus import Gpu


def _rule(name: str, make: Callable[[], Any], summary: str) -> Callable[[Any, Gpu, Any], Any]:
    def apply(func: Any, _gpu: Gpu, target: Any) -> Any:
        if not (func.attrs or {}).get("s_tir", False):
            return None
        found = make().apply(func.with_attr("global_symbol", "main"), target, False)
        if isinstance(found, list | tuple):
            found = found[0] if found else None
        return found.mod["main"] if isinstance(found, s_tir.Schedule) else None

    apply.__name__, apply.__doc__ = name, summary
    return apply


matmul = _rule("matmul", rules.Matmul, "Matrix products through shared memory, on matrix units where they fit.")
gemv = _rule("gemv", rules.GEMV, "A matrix times a vector: a warp or more for each row.")
low_batch_gemv = _rule("low_batch_gemv", rules.LowBatchGEMV, "A matrix times a few vectors.")
rms_norm = _rule("rms_norm", rules.RMSNorm, "Root mean square norms: a block for each row.")
transpose = _rule("transpose", rules.Transpose, "Transposes through a tile of shared memory.")
reduction = _rule("reduction", rules.Reduction, "One reduction: the threads of a block share it.")
general_reduction = _rule(
    "general_reduction", rules.GeneralReduction, "Several reductions along the same axes, as a softmax or a norm has."
)
fallback = _rule("fallback", rules.Fallback, "Each block of an operator by itself: a thread for each element.")
