"""The activation functions of recurrent cells, each as nodes of the body of the loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tesa.frontend.expand import Writer

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}

Formula = Callable[[Any, str, float, float], str]
"""Gets the cell that is written, the input, alpha and beta, and returns the output."""

_FORMULAS: dict[str, tuple[Formula, tuple[float, ...]]] = {}
"""By the name in small letters: the formula and the defaults of alpha and beta; () for one that has neither."""


@dataclass(frozen=True)
class Activation:
    """An activation with its numbers; called with a cell and an input it writes the nodes and gives the output."""

    name: str
    alpha: float
    beta: float

    def __call__(self, cell: Any, x: str) -> str:
        return _FORMULAS[self.name][0](cell, x, self.alpha, self.beta)


def activations_of(writer: Writer, direction: int, each: int, directions: int) -> Sequence[Activation]:
    """The activations of one direction. UnsupportedError for one that ONNX does not know.

    alpha and beta are lists for all activations of all directions in order, from which each takes what it has.
    """
    options = writer.options
    names = [name.decode().lower() for name in options.get("activations", [])]
    if not names:
        kind = writer.node.op_type.removeprefix("DynamicQuantize")
        names = [name.lower() for name in DEFAULTS[kind]] * directions
    unknown = [name for name in names if name not in _FORMULAS]
    if unknown or len(names) != each * directions:
        known = ", ".join(sorted(_FORMULAS))
        raise writer.unsupported(
            f"its activations are {names}, expected {each * directions} of these: {known}. Export it with other ones"
        )
    alphas, betas = (list(options.get(f"activation_{what}", [])) for what in ("alpha", "beta"))
    found = []
    for name in names:
        numbers = list(_FORMULAS[name][1])
        for i, given in enumerate((alphas, betas)[: len(numbers)]):
            if given:
                numbers[i] = given.pop(0)
        found.append(Activation(name, *numbers, *[0.0] * (2 - len(numbers))))
    return found[direction * each : (direction + 1) * each]


def _plain(operator: str) -> Formula:
    return lambda cell, x, alpha, beta: cell.add(operator, x)


def _with(operator: str, *names: str) -> Formula:
    """An operator of ONNX with alpha, or with alpha and beta."""
    return lambda cell, x, *numbers: cell.add(operator, x, **dict(zip(names, numbers, strict=False)))


def _affine(cell: Any, x: str, alpha: float, beta: float) -> str:
    return str(cell.add("Add", cell.add("Mul", x, cell.number(alpha)), cell.number(beta)))


def _scaled_tanh(cell: Any, x: str, alpha: float, beta: float) -> str:
    return str(cell.add("Mul", cell.add("Tanh", cell.add("Mul", x, cell.number(beta))), cell.number(alpha)))


_FORMULAS |= {
    "relu": (_plain("Relu"), ()),
    "tanh": (_plain("Tanh"), ()),
    "sigmoid": (_plain("Sigmoid"), ()),
    "softsign": (_plain("Softsign"), ()),
    "softplus": (_plain("Softplus"), ()),
    "leakyrelu": (_with("LeakyRelu", "alpha"), (0.01,)),
    "thresholdedrelu": (_with("ThresholdedRelu", "alpha"), (1.0,)),
    "elu": (_with("Elu", "alpha"), (1.0,)),
    "hardsigmoid": (_with("HardSigmoid", "alpha", "beta"), (0.2, 0.5)),
    "affine": (_affine, (1.0, 0.0)),
    "scaledtanh": (_scaled_tanh, (1.0, 1.0)),
}
