"""A loop of a fixed number of steps in Relax: functions that call each other, each some steps of the loop.

The function of one step is called by a function of BASE steps, which is called by one of BASE * BASE, and so on. So the
size of the module, and the time to compile it, grow with the logarithm of the number of steps. A function gets the
states, the stretch of each scanned tensor that belongs to its steps, cut along axis 0, and the captured tensors; it
returns the new states and its stretch of each stacked tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax

from tesa.base.loop_names import STEP

BASE = 8


@dataclass(frozen=True)
class Steps:
    """A function of some steps of a loop. body: it is the loop's own, of one step, on slices without axis 0."""

    function: Any
    count: int
    body: bool = False


@dataclass(frozen=True)
class LoopTypes:
    """The types that the functions of a loop have in common.

    states, captured: types. scanned, stacked: types of one slice. reverse, out_reverse: whether they run backwards.
    """

    states: tuple[Any, ...]
    scanned: tuple[Any, ...]
    captured: tuple[Any, ...]
    stacked: tuple[Any, ...]
    reverse: tuple[bool, ...]
    out_reverse: tuple[bool, ...]


def many_steps(builder: Any, name: str, shape: LoopTypes, step: Any, count: int) -> Any:
    """A GlobalVar of a function that makes `count` steps; step: the GlobalVar of the body."""
    pieces = [Steps(step, 1, body=True)]
    while pieces[-1].count * BASE <= count:
        size = pieces[-1].count * BASE
        pieces.append(Steps(_joined(builder, f"{name}_{size}", shape, [pieces[-1]] * BASE), size))
    parts: list[Steps] = []
    left = count
    for piece in reversed(pieces):
        parts += [piece] * (left // piece.count)
        left %= piece.count
    whole = len(parts) == 1 and not parts[0].body
    return parts[0].function if whole else _joined(builder, f"{name}_{count}", shape, parts)


def _parameters(shape: LoopTypes, count: int) -> tuple[list[Any], list[Any], list[Any]]:
    states = [relax.Var(f"state{i}", ty) for i, ty in enumerate(shape.states)]
    scanned = [relax.Var(f"scanned{i}", _long(ty, count)) for i, ty in enumerate(shape.scanned)]
    captured = [relax.Var(f"captured{i}", ty) for i, ty in enumerate(shape.captured)]
    return states, scanned, captured


def _long(ty: Any, count: int) -> Any:
    return relax.TensorType((count, *_sizes(ty)), ty.dtype)


def _joined(builder: Any, name: str, shape: LoopTypes, parts: Sequence[Steps]) -> Any:
    """The steps of all parts, one behind the other."""
    total = sum(part.count for part in parts)
    states, scanned, captured = _parameters(shape, total)
    with builder.function(name, [*states, *scanned, *captured], private=True):
        with builder.dataflow():
            cut = [_pieces(builder, x, parts, back) for x, back in zip(scanned, shape.reverse, strict=True)]
            now: list[Any] = list(states)
            made: list[list[Any]] = []
            for i, part in enumerate(parts):
                given = [pieces[i] for pieces in cut]
                if part.body:
                    given = [_reshaped(builder, x, _sizes(ty)) for x, ty in zip(given, shape.scanned, strict=True)]
                arguments = [*now, *given, *captured]
                results = _call(builder, part.function, arguments, len(states) + len(shape.stacked))
                now, rows = results[: len(states)], results[len(states) :]
                if part.body:
                    rows = [_reshaped(builder, y, [1, *_sizes(ty)]) for y, ty in zip(rows, shape.stacked, strict=True)]
                made.append(rows)
            whole = [_together(builder, [rows[i] for rows in made], back) for i, back in enumerate(shape.out_reverse)]
            output = builder.emit_output(relax.Tuple([*now, *whole]))
        return builder.emit_func_output(output)


def _pieces(builder: Any, x: Any, parts: Sequence[Steps], back: bool) -> list[Any]:
    """The stretch of a scanned tensor for each part, in the order of the parts."""
    if len(parts) == 1:
        return [x]
    order = list(parts)[::-1] if back else list(parts)
    ends = [sum(part.count for part in order[: i + 1]) for i in range(len(order) - 1)]
    whole = builder.emit(relax.op.split(x, ends, 0))
    pieces = [builder.emit(relax.TupleGetItem(whole, i)) for i in range(len(order))]
    return pieces[::-1] if back else pieces


def _together(builder: Any, rows: list[Any], back: bool) -> Any:
    """The stretches of a stacked tensor of all parts, as one."""
    return rows[0] if len(rows) == 1 else builder.emit(relax.op.concat(rows[::-1] if back else rows, 0))


def _reshaped(builder: Any, x: Any, sizes: list[int]) -> Any:
    return builder.emit(relax.op.reshape(x, sizes))


def _sizes(ty: Any) -> list[int]:
    return [int(n) for n in ty.shape]


def _call(builder: Any, function: Any, arguments: Sequence[Any], results: int) -> list[Any]:
    """The results of a call of a function of the module, which returns a tuple."""
    found = builder.emit(relax.Call(function, list(arguments)))
    return [builder.emit(relax.TupleGetItem(found, i)) for i in range(results)]


def functions_of(mod: Any, root: str = "main") -> list[tuple[Any, Any]]:
    """(GlobalVar, function) of the Relax functions that `root` needs, each behind those that it calls, itself last."""
    known = {var: f for var, f in mod.functions_items() if isinstance(f, relax.Function)}
    order: dict[Any, Any] = {}

    def visit(var: Any) -> None:
        if var in order or var not in known:
            return
        for block in known[var].body.blocks:
            for binding in block.bindings:
                if isinstance(binding.value, relax.Call):
                    visit(binding.value.op)
        order[var] = known[var]

    visit(mod.get_global_var(root))
    return list(order.items())


def steps_of(mod: Any) -> list[tuple[Any, Any]]:
    """(GlobalVar, function) of the bodies of a module's loops."""
    return [(var, f) for var, f in functions_of(mod) if var.name_hint.startswith(STEP)]
