"""The comparison of a tensor with a reference, as verification gives it back."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np  # noqa: F401  (the doctest's)
from numpy.typing import NDArray

from tesa.base.compare import largest_difference, magnitude
from tesa.base.display import Displayed
from tesa.base.tolerance import Tolerance
from tesa.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """The difference of one tensor from the reference.

    max_abs: the largest |got - expected|, where equal infinities and two NaN differ by 0, and anything else that is
    not finite by infinity. max_rel: max_abs / largest finite |expected| of the whole tensor, not element by element.
    ok: the tensors agree within the tolerance, which is there in words. dead, channels, of a layer: how many output
    features were left out because they have elements that no output of the model depends on, and how many there are.
    why: the reason why nothing was compared; a layer is ok then, an output without any number is not. ties: elements
    that were left out because onnxruntime itself decides them one way or the other.
    """

    name: str
    max_abs: float
    max_rel: float
    ok: bool
    dead: int = 0
    channels: int = 0
    why: str = ""
    ties: int = field(default=0, compare=False)
    tolerance: str = field(default="", compare=False)

    @property
    def compared(self) -> bool:
        """False where there was nothing to hold the tensor against."""
        return not self.why and not (self.dead and self.dead == self.channels)

    @property
    def note(self) -> str:
        """A sentence about what was left out, "" if nothing was."""
        if self.why:
            return f"not compared: {self.why}"
        if self.ties:
            return f"{self.ties} elements are ties that onnxruntime decides one way or the other, not compared"
        if not self.dead:
            return ""
        if self.dead == self.channels:
            return f"not compared: all {self.channels} channels have dead elements"
        return f"{self.dead} of {self.channels} channels are dead, not compared"


@dataclass(frozen=True)
class VerifyResult(Displayed):
    """All comparisons of a run."""

    outputs: tuple[Comparison, ...]
    layers: tuple[Comparison, ...] = ()

    @property
    def ok(self) -> bool:
        """True where every tensor agrees."""
        return all(item.ok for item in (*self.outputs, *self.layers))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump; an infinite difference is None, which JSON writes as null."""
        sides = {"outputs": self.outputs, "layers": self.layers}
        return {"ok": self.ok, **{side: [_row(item) for item in items] for side, items in sides.items()}}


def compare(name: str, got: Array, expected: Array, atol: float, rtol: float) -> Comparison:
    """Compare two arrays: |got - expected| <= atol + rtol * |expected|; a NaN or an infinity in one alone is never ok.

    UsageError for another shape.

    >>> compare("y", np.array([1.0, np.inf]), np.array([1.5, np.inf]), 1e-4, 1e-3).max_rel
    0.3333333333333333
    """
    return compare_within(name, got, expected, Tolerance(atol, rtol))


def compare_within(name: str, got: Array, expected: Array, tolerance: Tolerance) -> Comparison:
    """Compare two arrays of one shape within a tolerance. UsageError for another shape."""
    if got.shape != expected.shape:
        raise UsageError(f"{name}: shape {list(got.shape)} against {list(expected.shape)} of the reference")
    largest, scale = largest_difference(got, expected), magnitude(expected) or 1.0
    return Comparison(name, largest, largest / scale, tolerance.holds(got, expected), tolerance=str(tolerance))


def _row(item: Comparison) -> dict[str, Any]:
    row = asdict(item)
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
