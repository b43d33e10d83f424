"""Division by what does not change in a loop, as multiplication by its reciprocal, which LLVM takes out of the loop.

Softmax divides every element of a row by the row's sum: a vector division costs several times a multiplication. The
result may differ in the last place.
"""

from typing import Any

from tvm import tirx

from tesa.schedules.cpu.operators.tree import collect, mentions, rewrite


def multiply_by_reciprocals(stmt: Any, innermost: Any = None) -> Any:
    """stmt with x / y as x * (1 / y) wherever the innermost loop moves what is stored, but not the float32 value y."""
    if isinstance(stmt, tirx.For):
        body = multiply_by_reciprocals(stmt.body, stmt.loop_var)
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, annotations=stmt.annotations)
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([multiply_by_reciprocals(part, innermost) for part in stmt.seq])
    if innermost is None or not isinstance(stmt, tirx.BufferStore) or not collect(stmt.value, tirx.Div):
        return stmt
    if not any(mentions(at, innermost) for at in stmt.indices):
        return stmt

    def change(node: Any) -> Any:
        fixed = isinstance(node.b, tirx.FloatImm) or mentions(node.b, innermost)
        if fixed or str(node.ty.dtype) != "float32":
            return node
        return node.a * (tirx.FloatImm("float32", 1.0) / node.b)

    return tirx.BufferStore(stmt.buffer, rewrite(stmt.value, tirx.Div, change), list(stmt.indices))
