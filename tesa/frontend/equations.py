"""The equation of an Einsum, held against its operands: labels, their number, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tesa.attributes.attribute import Shape
from tesa.errors import ModelError
from tesa.frontend.graph import attributes

DOTS = "..."


def check_equation(node: Any, shapes: Mapping[str, Shape], where: str) -> None:
    """Raise a ModelError for an Einsum that says no product of its inputs. shapes: of those tensors that are known."""
    try:
        text = attributes(node)["equation"].decode().replace(" ", "")
    except (KeyError, UnicodeDecodeError, AttributeError):
        raise ModelError(f"{where}: it has no equation. Export the model again") from None
    wrong = fault(text, [shapes.get(name) for name in node.input])
    if wrong:
        raise ModelError(f"{where}: its equation {text!r} {wrong}. Export the model again")


def fault(equation: str, shapes: list[Shape | None]) -> str:
    """The fault of an equation for operands of these shapes; None for one that is not known; "" for none.

    >>> fault("ij,jk->ik", [(2, 3), (3, 4)]), fault("ij,jk->zz", [(2, 3), None])
    ('', "names 'z' more than once behind the arrow")
    """
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        return f"has {len(terms)} terms, and there are {len(shapes)} inputs"
    for term in [*terms, right]:
        letters = term.replace(DOTS, "", 1)
        if any(not (c.isascii() and c.isalpha()) for c in letters):
            return f"has the term {term!r}, expected letters and at most one ellipsis"
    known = set(left)
    if arrow:
        double = next((c for c in right if c != "." and right.count(c) > 1), None)
        if double is not None:
            return f"names {double!r} more than once behind the arrow"
        lost = next((c for c in right if c not in known), None)
        if lost is not None:
            return f"names {lost!r} behind the arrow, which no input has"
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        wrong = "" if shape is None else _term_fault(term, shape, sizes)
        if wrong:
            return wrong
    return ""


def _term_fault(term: str, shape: Shape, sizes: dict[str, int]) -> str:
    """sizes: of the labels so far, and of those of this term afterwards."""
    before, dots, behind = term.partition(DOTS)
    labels = before + behind
    if len(labels) > len(shape) or (not dots and len(labels) < len(shape)):
        return f"has {len(labels)} labels in {term!r} for an input of shape {list(shape)}"
    places = [*zip(before, shape, strict=False), *zip(behind, shape[len(shape) - len(behind) :], strict=True)]
    for label, size in places:
        if sizes.setdefault(label, size) != size and 1 not in (size, sizes[label]):
            return f"gives {label!r} the sizes {sizes[label]} and {size}"
        sizes[label] = max(sizes[label], size)
    return ""
