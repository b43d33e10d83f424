"""The registry of propagation rules: how the facts about an operator's tensors pass it, by name of the operator."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tesa.attributes.attribute import Bools, Shape, TeSA, Values


@dataclass(frozen=True)
class Operator:
    """An operator as a rule sees it: shapes, constants and attributes, no IR.

    inputs, outputs: shapes. constants: the array of an input that is a constant, else None. dtypes: of the outputs.
    attrs: the operator's attributes as Python values; static arguments (a new shape, the bounds of a clip) are in
    `static`, in their order.
    """

    op: str
    layer: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    constants: tuple[Values | None, ...]
    dtypes: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    static: tuple[Any, ...] = ()


Forward = Callable[[Operator, tuple[TeSA, ...]], tuple[TeSA, ...]]
Backward = Callable[[Operator, tuple[TeSA, ...], tuple[TeSA, ...]], tuple[Bools, ...]]
Precision = Callable[[Operator, tuple[TeSA, ...], tuple[TeSA, ...]], tuple[TeSA | None, ...]]


@dataclass(frozen=True)
class Rule:
    """A propagation rule: the functions by which facts pass an operator.

    forward(operator, inputs): what is known of each output. backward(operator, inputs, outputs): for each input a mask
    that broadcasts to its shape, True where an element is needed so that the live elements of the outputs are right.
    weights: the positions of inputs that are weights where they are constants: only their zeros are facts, so that
    their other elements can be found dead. precision(operator, inputs, outputs): for each input the bits and the
    quantization that suffice so that the outputs are right to their own bits, as a TeSA that says nothing else; None
    for an input, or for the rule, where full precision is needed.
    """

    operators: tuple[str, ...]
    summary: str
    forward: Forward
    backward: Backward
    weights: tuple[int, ...] = ()
    precision: Precision | None = None


_RULES: dict[str, Rule] = {}
_FAMILIES: list[Callable[[], Mapping[str, Rule]]] = []


def rule(
    *operators: str,
    backward: Backward,
    weights: tuple[int, ...] = (),
    precision: Precision | None = None,
    replace: bool = False,
) -> Callable[[Forward], Forward]:
    """Register the decorated function as forward rule of the operators; its docstring's first line is the summary.

    operators: names in Relax, or of a custom operator: call_tir.NAME for a PrimFunc (its attribute "tesa.op" if it has
    one, else the name of its GlobalVar), call_dps_packed.SYMBOL and call_packed.SYMBOL for a packed function, call.NAME
    for a Relax function. replace: take the place of a rule that is there, which is a ValueError otherwise.

    A whole custom operator, swoosh(x) = x * sigmoid(x - 1), which keeps a zero:

    >>> import numpy as np, tvm
    >>> from tvm import relax, te
    >>> from tesa.attributes.attribute import from_mask
    >>> from tesa.propagate import common, rule, rule_scope
    >>> from tesa.propagate.engine import solve
    >>> from tesa.propagate.network import build_network
    >>> def swoosh(x):
    ...     return te.compute(x.shape, lambda *i: x(*i) * te.sigmoid(x(*i) - 1.0), name="swoosh")
    >>> builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType([1, 3], "float32"))
    >>> with builder.function("main", [x]):
    ...     y = builder.emit_func_output(builder.emit(builder.call_te(swoosh, x, primfunc_name_hint="swoosh"), "y"))
    >>> mod = builder.get()
    >>> with rule_scope():  # a script of your own registers it for good and needs no scope
    ...     @rule("call_tir.swoosh", backward=common.same_place)
    ...     def keeps_zero(op, inputs):
    ...         "swoosh(0) = 0."
    ...         (x,) = inputs
    ...         return (common.facts(op.outputs[0], x.zero, np.zeros((1, 1))),)
    ...     net = build_network(mod["main"], functions=mod)
    ...     print(solve(net, {"x": from_mask(np.array([[1, 0, 1]]))}).tesa["y"])
    33.3% known to be 0 (rule call_tir.swoosh of y)

    Without the rule the same is found: swoosh is element-wise and asked for f(0); what is not element-wise is
    scrambled.
    """

    def register(forward: Forward) -> Forward:
        summary = (forward.__doc__ or "").strip().splitlines()[:1]
        new = Rule(operators, summary[0] if summary else "", forward, backward, weights, precision)
        taken = [name for name in operators if name in _RULES]
        if taken and not replace:
            raise ValueError(
                f"operator {taken[0]!r} has two rules; rule(..., replace=True) puts the new one in its place"
            )
        _RULES.update(dict.fromkeys(operators, new))
        return forward

    return register


def remove_rule(*operators: str) -> None:
    """Take the rules of these operators away: from now on they are asked for f(0), or scrambled.

    KeyError for an operator that has none.
    """
    for name in operators:
        del _RULES[name]


@contextmanager
def rule_scope() -> Iterator[None]:
    """A scope in which rules are registered, replaced or removed for a while: for tests and notebooks.

    >>> from tesa.propagate import remove_rule, rule_scope, rules
    >>> with rule_scope():
    ...     remove_rule("relax.multiply")
    ...     "relax.multiply" in dict(rules())
    False
    >>> "relax.multiply" in dict(rules())
    True
    """
    before = dict(_RULES)
    try:
        yield
    finally:
        _RULES.clear()
        _RULES.update(before)


def find(operator: str) -> Rule | None:
    """The rule that is registered for an operator by name, None if there is none; see select.py for what is then."""
    return _RULES.get(operator)


def family(members: Callable[[], Mapping[str, Rule]]) -> Callable[[], Mapping[str, Rule]]:
    """Register a function that lists operators whose rule is no matter of their name, for `rules`."""
    _FAMILIES.append(members)
    return members


def rules() -> tuple[tuple[str, Rule], ...]:
    """Every operator that has a rule, with the rule, by name; also those that are covered without being named."""
    found = {name: rule for members in _FAMILIES for name, rule in members().items()}
    return tuple(sorted({**found, **_RULES}.items()))
