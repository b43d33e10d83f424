"""A rough time of a loop nest on one core: enough to tell whether starting threads pays."""

from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.tree import collect, const_int

_ACCESS_NS, _STEP_NS, _CALL_NS = 0.03, 0.01, 0.2


def nanoseconds(stmt: Any) -> float:
    """Expected time of vectorized code: so much for each load and store, arithmetic step and transcendental call."""
    if isinstance(stmt, tirx.For):
        return (const_int(stmt.extent) or 1) * nanoseconds(stmt.body)
    if isinstance(stmt, tirx.SeqStmt):
        return sum(nanoseconds(part) for part in stmt.seq)
    if isinstance(stmt, tirx.IfThenElse):
        return nanoseconds(stmt.then_case)
    if isinstance(stmt, tirx.AttrStmt):
        return nanoseconds(stmt.body)
    if not isinstance(stmt, tirx.BufferStore):
        return 0.0
    steps = len(collect(stmt.value, (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)))
    accesses = 1 + max(1, len(collect(stmt.value, ir.TensorLoad)))
    lanes = int(stmt.value.ty.dtype.lanes)
    return lanes * _ACCESS_NS * accesses + _STEP_NS * steps + _CALL_NS * len(collect(stmt.value, ir.Call))
