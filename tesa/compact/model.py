"""compact: the model without the channels, features and heads that no output depends on."""

from collections.abc import Mapping
from dataclasses import replace

from tesa.compact.passes import one_pass, smallest
from tesa.compact.result import Compacted, Left, Removal
from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate

__all__ = ["Compacted", "Removal", "compact"]


def compact(model: TesaModel, *, file: bool = True) -> Compacted:
    """Remove, over the whole network, every channel, feature or head that is dead or a known constant.

    Tensors that an operator joins are shrunk together or not at all. Constants are folded into the biases of what reads
    them. Weights have the dead elements that stay set to 0. Inputs and outputs keep names and shapes, nodes and weights
    their names, and the outputs their values up to rounding. No axis is removed wholly: one index stays.

    file: choose the form that makes the smallest file: what was not cut is written as the given file has it where that
    is smaller, and weights that layers share stay shared. Without, all that can go goes.

    UsageError for a module that did not come from an ONNX file.

    >>> from importlib.resources import files
    >>> from tesa.frontend import import_onnx
    >>> from tesa.propagate import propagate
    >>> small = compact(propagate(import_onnx(str(files("tesa.models") / "digits.onnx"))))
    >>> small.parameters_after <= small.parameters_before
    True
    """
    made = smallest(model) if file else one_pass(model, file=False)
    found, again = made.result, made.again
    while again:  # a folded constant may have been all that kept something else alive
        next_model = propagate(import_onnx(found.proto))
        made = smallest(next_model) if file else one_pass(next_model, file=False)
        again = made.again and bool(made.result.removed)
        found = _joined(found, made.result) if made.result.removed else found
    return found


def _chained(first: Mapping[str, Left], second: Mapping[str, Left]) -> dict[str, Left]:
    """Two removals one after the other, as one."""
    rows = dict(first)
    for name, after in second.items():
        before = first.get(name, ((),) * len(after))
        pairs = zip(before, after, strict=True)
        rows[name] = tuple(tuple(b[i] for i in a) if a and b else a or b for b, a in pairs)
    return rows


def _joined(first: Compacted, second: Compacted) -> Compacted:
    """Two passes as one."""
    rows = {(r.layer, r.tensor, r.axis): r for r in first.removed}
    for row in second.removed:
        key = (row.layer, row.tensor, row.axis)
        rows[key] = replace(row, before=rows[key].before) if key in rows else row
    return replace(
        second, removed=tuple(rows.values()), parameters_before=first.parameters_before, macs_before=first.macs_before,
        left=_chained(first.left, second.left), size_before=first.size_before,
    )  # fmt: skip
