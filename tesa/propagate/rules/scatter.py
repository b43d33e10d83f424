"""Writing elements by index into a copy of a tensor.

Where constant indices overwrite an element its old value is dead. Two updates of one place come in any order: what
stands there is then unknown and both are needed. Combining updates (add, mul, min, max) keep the old value alive.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Bools, TeSA, Values, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import facts
from tesa.propagate.rules.gather import along, tuples
from tesa.propagate.rules.movement import one_scale
from tesa.propagate.rules.mover import indices, whole

Targets = NDArray[np.int64]  # for each element of the updates its place in the flattened data
COMBINE: dict[str, Any] = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _updates(op: Operator) -> int:
    """The position of the updates among the inputs."""
    return 1 if op.op == "relax.slice_scatter" else len(op.inputs) - 1


def _reduction(op: Operator) -> str:
    if op.op == "relax.index_put":
        return "add" if op.attrs.get("accumulate") else "update"
    return str(op.attrs.get("reduction", "update"))


def _targets(op: Operator, inputs: tuple[TeSA, ...]) -> Targets | None:
    """The target of each update; None if the indices are not known or out of range."""
    data, updates = op.inputs[0], op.inputs[_updates(op)]
    if op.op == "relax.slice_scatter":
        return _slice_targets(op)
    found = [indices(op, inputs, i) for i in range(1, len(inputs) - 1)]
    known = [i for i in found if i is not None]
    if len(known) < len(found):
        return None
    places: Values | None
    if op.op == "relax.scatter_elements":
        axis = int(op.attrs["axis"]) % len(data)
        inside = bool(((known[0] >= 0) & (known[0] < data[axis])).all())
        places = along(known[0], data, axis) if inside else None
    elif op.op == "relax.scatter_nd":
        places = tuples(known[0], data)
    else:
        inside = all(bool(((i >= 0) & (i < n)).all()) for i, n in zip(known, data, strict=False))
        places = np.arange(math.prod(data)).reshape(data)[tuple(known)] if inside else None
    return places if places is not None and places.shape == updates else None


def _slice_targets(op: Operator) -> Targets | None:
    begin, end, step = op.static[:3] if len(op.static) > 2 else (None, None, None)
    data, axis = op.inputs[0], int(op.attrs.get("axis", 0)) % len(op.inputs[0])
    if any(not isinstance(v, int) for v in (begin, end, step)) or step <= 0:
        return None
    cut = (slice(None),) * axis + (slice(begin, end, step),)
    places = np.arange(math.prod(data)).reshape(data)[cut]
    return places if places.shape == op.inputs[1] else None


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    targets, live, position = _targets(op, inputs), outputs[0].live, _updates(op)
    needs = [whole(op, i, bool(live.any())) for i in range(len(op.inputs))]
    needs[0] = live
    if targets is not None:
        full = np.broadcast_to(live, op.inputs[0])
        needs[position] = full.reshape(-1)[targets]
        if _reduction(op) == "update":
            needs[0] = full & (_times(targets, op.inputs[0]) == 0)
    return tuple(needs)


def _times(targets: Targets, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The number of times that each element of the data is written."""
    return np.bincount(targets.reshape(-1), minlength=math.prod(shape)).reshape(shape)


def _bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """One scale for all of the output is right for what is written and what stays."""
    if _reduction(op) != "update":
        return (None,) * len(inputs)
    moves = (0, _updates(op))
    return tuple(one_scale(outputs[0], t.shape) if i in moves else None for i, t in enumerate(inputs))


@rule(
    "relax.scatter_elements", "relax.scatter_nd", "relax.index_put", "relax.slice_scatter",
    backward=_backward, precision=_bits,
)  # fmt: skip
def scatter(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where the last that was written is; old values that constant indices overwrite are dead."""
    data, updates, targets = inputs[0], inputs[_updates(op)], _targets(op, inputs)
    if not data.known.any() and not updates.known.any():
        return (unknown(op.outputs[0]),)
    if targets is None:
        return (_anywhere(op, data, updates),)
    known, value = (np.array(np.broadcast_to(a, data.shape)).reshape(-1) for a in (data.known, data.value))
    new_known, new = (np.broadcast_to(a, updates.shape) for a in (updates.known, updates.value))
    times = _times(targets, data.shape).reshape(-1)
    if _reduction(op) == "update":
        kinds = [a.dtype for a, there in ((value, known), (new, new_known)) if there.any()]
        known[targets], value = new_known, value.astype(np.result_type(*kinds))
        value[targets] = new
        known &= times < 2
    else:
        value = value.astype(np.float64 if op.dtypes[0].startswith(("float", "bfloat")) else op.dtypes[0])
        with np.errstate(all="ignore"):
            COMBINE[_reduction(op)].at(value, targets, np.where(new_known, new, 0).astype(value.dtype))
        np.logical_and.at(known, targets, new_known)
    return (facts(op.outputs[0], known.reshape(data.shape), value.reshape(data.shape)),)


def _anywhere(op: Operator, data: TeSA, updates: TeSA) -> TeSA:
    """With indices that are not known: a constant stays if it is also all that could be written over it."""
    value = updates.value.reshape(-1)[:1]
    if _reduction(op) != "update" or not updates.known.all() or not bool((updates.value == value).all()):
        return unknown(op.outputs[0])
    same = data.known & (data.value == value.reshape((1,) * data.value.ndim))
    return replace(unknown(op.outputs[0]), known=same, value=np.where(same, data.value, data.value.dtype.type(0)))
