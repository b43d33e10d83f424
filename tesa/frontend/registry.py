"""The converters of ONNX operators: tesa's own, and those that a user registers for operators of another domain.

A converter is function(builder, inputs, attributes) -> expression, or None where TVM's own converter shall do it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tesa.errors import UsageError

Converter = Callable[[Any, Any, dict[str, Any]], Any]

MICROSOFT = "com.microsoft"

_OWN: dict[str, Converter] = {}
_CUSTOM: dict[str, tuple[Converter, str]] = {}
"""The user's converters, each with its labels."""


def imports(*operators: str) -> Callable[[Converter], Converter]:
    """Register the decorated function as tesa's converter: "Operator" of ONNX, "com.microsoft::Operator" of others."""

    def register(function: Converter) -> Converter:
        for name in operators:
            if name in _OWN:
                raise ValueError(f"operator {name!r} has two converters")
            _OWN[name] = function
        return function

    return register


def converter(name: str, *, labels: str = "", replace: bool = False) -> Callable[[Converter], Converter]:
    """Register the decorated function as the way to import an ONNX operator, "domain::Operator".

    The function gets (bb, inputs, attrs): the relax.BlockBuilder, the node's inputs as Relax expressions (None for one
    that is left out; a constant tensor is a Relax constant), and its attributes as Python values (text as bytes). It
    returns a Relax expression, a relax.Tuple of them for several outputs. bb.normalize(expression) gives a new
    expression its type; bb.call_te(function, *inputs) makes an operator of its own out of a tensor expression.

    labels: which axes of its inputs and of its one output correspond, as an Einstein sum says it ("...->..." element by
    element, "nk,mk->nm" a product): then channels are removed through the operator, else all of its axes stay. An index
    of which all elements are 0 must count for nothing where the output lacks its label.

    UsageError if the name has no domain or is taken; replace: take the place of a converter that is there.

    >>> from tvm import relax
    >>> with converter_scope():  # a script of your own registers it for good and needs no scope
    ...     @converter("com.example::Swoosh")
    ...     def swoosh(bb, inputs, attrs):
    ...         (x,) = inputs
    ...         shifted = bb.normalize(relax.op.subtract(x, relax.const(attrs.get("shift", 1.0), "float32")))
    ...         return relax.op.multiply(x, bb.normalize(relax.op.sigmoid(shifted)))
    ...     custom_operators()
    ('com.example::Swoosh',)
    """
    domain, _, operator = name.partition("::")
    if not domain or not operator:
        raise UsageError(f"a converter is registered for {name!r}, expected domain::Operator, as com.example::Swoosh")

    def register(function: Converter) -> Converter:
        if name in _CUSTOM and not replace:
            raise UsageError(f"operator {name!r} has a converter; converter(..., replace=True) puts this in its place")
        _CUSTOM[name] = function, labels
        return function

    return register


def find_converter(operator: str, domain: str = "") -> Converter | None:
    """The user's converter of an operator, else tesa's, else None. domain: "" for ONNX's own operators."""
    custom = _CUSTOM.get(f"{domain}::{operator}")
    return custom[0] if custom is not None else _OWN.get(f"{domain}::{operator}" if domain else operator)


def labels_of(operator: str, domain: str) -> str:
    """The labels that a user's converter was registered with, "" if there are none."""
    custom = _CUSTOM.get(f"{domain}::{operator}")
    return custom[1] if custom is not None else ""


def custom_operators() -> tuple[str, ...]:
    """The operators that a converter is registered for."""
    return tuple(sorted(_CUSTOM))


@contextmanager
def converter_scope() -> Iterator[None]:
    """A scope in which converters are registered for a while: they are forgotten at its end."""
    before = dict(_CUSTOM)
    try:
        yield
    finally:
        _CUSTOM.clear()
        _CUSTOM.update(before)
