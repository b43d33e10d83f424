"""The settings of a quantization, checked where they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from tesa.compress.quantize.grids import METHODS
from tesa.errors import UsageError

FLOAT = 32
"""The number of bits that leaves a layer in float32."""

BITS = (2, 3, 4, 5, 6, 7, 8, FLOAT)


@dataclass(frozen=True)
class Settings:
    """The way to quantize a model.

    bits: of the weights; 32 leaves a layer in float32. overrides: bits by the name of a layer or a pattern of names (*
    and ?); the last that matches counts. method: how the ranges of activations are found, weight_method those of
    weights; None takes the usual one, min/max for 7 and 8 bits and the least squared error for fewer. percentile: of
    that method. per_channel: a scale for each output of a layer. block: of weights of matrix products, a scale for each
    so many inputs. activations: False quantizes the weights alone, which needs no data.

    >>> Settings(overrides={"block1.*": 8}, bits=4).bits_of("block1.pointwise")
    8
    """

    bits: int = 8
    overrides: Mapping[str, int] = field(default_factory=dict)
    method: str = "mse"
    weight_method: str | None = None
    percentile: float = 99.99
    per_channel: bool = True
    block: int | None = None
    activations: bool = True

    def __post_init__(self) -> None:
        for bits in (self.bits, *self.overrides.values()):
            if bits not in BITS:
                raise UsageError(f"weights cannot have {bits} bits; there are 2 to 8, and {FLOAT} for float32")
        for method in (self.method, self.weight_method or self.method):
            if method not in METHODS:
                near = get_close_matches(method, METHODS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(METHODS)}"
                raise UsageError(f"there is no calibration method {method!r}{hint}")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"the percentile must be above 50 and at most 100, got {self.percentile:g}")
        if self.block is not None and (self.block < 16 or self.block & (self.block - 1)):
            raise UsageError(f"blocks of weights have 16, 32, 64, ... inputs, a power of two; got {self.block}")

    def bits_of(self, layer: str) -> int:
        """The bits of the weights of a layer."""
        found = [bits for name, bits in self.overrides.items() if name == layer or fnmatchcase(layer, name)]
        return found[-1] if found else self.bits

    def method_of_weights(self, bits: int) -> str:
        """The method that finds the ranges of weights of so many bits."""
        return self.weight_method or ("minmax" if bits >= 7 else "mse")

    def check_names(self, layers: list[str]) -> None:
        """Raises UsageError for a name that no layer has, with the nearest."""
        for name in self.overrides:
            if not any(name == layer or fnmatchcase(layer, name) for layer in layers):
                near = get_close_matches(name, layers, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(layers)}"
                raise UsageError(f"no layer is called {name!r}; {hint}")
