"""The compiler's decisions as plain data: JSON both ways, printable, comparable."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tesa.base.display import Displayed, picture
from tesa.base.typed import typed
from tesa.build.footprint import Footprint
from tesa.schedules.types import Config, Epilogue, Output, Problem

LEFT_OUT = "left out:"
"""The beginning of the note of a candidate that could have competed, and was not let in."""


def epilogue_words(epilogue: Epilogue) -> list[str]:
    """The operations after the sum, in their order.

    >>> epilogue_words(Epilogue(bias=True, activation="relu"))
    ['bias', 'relu']
    """
    words = ["bias"] * epilogue.bias + ["residual"] * epilogue.residual
    return words + ([epilogue.activation] if epilogue.activation else [])


def codes_words(problem: Problem, found: bool = False) -> str:
    """The integers of a problem in words, "" where it has none. found: scale and zero point are those of each run.

    >>> codes_words(Problem("linear", 8, 12, 16, (16, 12), (16, 8), dtype="int8", x_zero=3))
    'X is uint8 codes with zero point 3, W int8 codes; Y is float32'
    """
    if problem.dtype == "float32":
        return ""
    rounded = "".join(f", rounded behind the {step} to {_kind(kind)}" for step, kind in problem.inner)
    x = "of the scale and zero point that each run finds" if found else f"with zero point {problem.x_zero}"
    return (
        f"X is uint8 codes {x}, W int8 codes; Y is {_kind(problem.output)}"
        + (f", the residual {_kind(problem.residual)}" if problem.epilogue.residual else "")
        + rounded
    )


def _kind(output: Output) -> str:
    scaled = f" codes of scale {output.scale:.6g}, zero point {output.zero}"
    return f"{output.dtype}{scaled if output.quantized else ''}"


class _OldName:
    """Keeps the name that the family of a plan had before."""

    family: str

    @property
    def schedule(self) -> str:
        """The family, by its old name."""
        warnings.warn("schedule is called family now", DeprecationWarning, stacklevel=2)
        return self.family


@dataclass(frozen=True)
class Candidate(_OldName):
    """One way to run a layer. Times in milliseconds; measured_ms is None where not measured, and note says why.

    dense: it computes with the zeros of the weight, so that it is what sparsity is measured against. bytes: of its code
    and constants, where they decided.
    """

    family: str
    config: Config = field(default_factory=dict)
    predicted_ms: float | None = None
    measured_ms: float | None = None
    note: str = ""
    dense: bool = False
    bytes: int | None = None


@dataclass(frozen=True)
class Part(_OldName):
    """A share of a layer's weight with one pattern and one precision, and the kernel that runs it.

    W is the sum of its layer's parts; nonzeros counts this part's. digest identifies values and pattern together.
    family and config are those of the layer's kernel: of a decomposition all parts name the same one, and kernel says
    what computes this part of it: a family, or "fused" where one kernel computes all parts at once. The first part has
    the candidates of the layer and the reason of the choice. storage: "float16" or "bfloat16" where real weights are
    kept so. arithmetic: "float16" where sums may be of such numbers.
    """

    pattern: str
    bits: int
    nonzeros: int
    digest: str
    family: str
    config: Config = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    reason: str = ""
    kernel: str = ""
    storage: str = ""
    arithmetic: str = ""


@dataclass(frozen=True)
class LayerPlan(Displayed):
    """One operator of the compiled model in running order.

    kind: "sparse" (a weight layer with generated kernels), "operator" (a scheduled operator without a sparse weight)
    or "layout" (an explicit change of layout). shape is (m, k, n) for a weight layer. facts are TeSA facts as text.
    tensor names the value of the source model that it computes ("" where no single one corresponds), symbol the
    function in the library. stored: the shape of the result as the kernel stores it; layout: the logical axis that each
    of these axes holds, ~axis for the phases of one: element q * phases + r of it stands at (q, r). axis: the logical
    axis of the output features; dead: those of them that have an element on which no output of the model depends;
    compiling may change these. kept: where slices of the source's tensor were removed, for each of its axes the indices
    that are left; an empty row stands for an axis that is whole. piece: of a layer that several kernels compute, the
    axis of the tensor, without what was removed, and from where to where this one computes it. digest: of the whole
    weight of the kernel, under which the log keeps the layer's times. calls:
    how often it is called in one run of the model, more than once in a loop. covers: the operators of the model that
    the call computes, in their order; the row is called after one of them. footprint: the bytes of the kernel, which
    layers with one symbol share. precision: "int8" where it computes with integers, "" for real numbers; codes: what
    these integers stand for, in words. signed: it stores int8 codes with 128 added, as uint8.
    """

    layer: str
    op: str
    kind: str
    shape: tuple[int, ...]
    sparsity: float = 0.0
    epilogue: str = ""
    parts: tuple[Part, ...] = ()
    facts: tuple[str, ...] = ()
    note: str = ""
    tensor: str = ""
    symbol: str = ""
    layout: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()
    kept: tuple[tuple[int, ...], ...] = ()
    digest: str = ""
    stored: tuple[int, ...] = ()
    axis: int = 1
    piece: tuple[int, ...] = ()
    calls: int = 1
    covers: tuple[str, ...] = ()
    footprint: Footprint = field(default_factory=Footprint)
    precision: str = ""
    codes: str = ""
    signed: bool = False

    @staticmethod
    def alone(
        problem: Problem, parts: tuple[Part, ...], symbol: str, digest: str, footprint: Footprint, note: str = ""
    ) -> LayerPlan:
        """The row of a kernel that belongs to no model."""
        shape = (problem.m, problem.k, problem.n)
        sparsity = 1 - sum(part.nonzeros for part in parts) / (problem.m * problem.k)
        epilogue = "+".join(epilogue_words(problem.epilogue))
        return LayerPlan(
            "kernel", problem.op, "sparse", shape, sparsity, epilogue, parts, note=note, symbol=symbol, digest=digest,
            footprint=footprint,
        )  # fmt: skip

    @property
    def kernel(self) -> str:
        """The kernels that compute the layer: a family's name, or that of a decomposition with those of its parts.

        >>> parts = [Part("block 32x32", 32, 9, "", "cover", kernel=name) for name in ("block", "indexed")]
        >>> LayerPlan("fc", "linear", "sparse", (8, 8, 1), parts=tuple(parts)).kernel
        'cover: block + indexed'
        """
        if not self.parts or not self.parts[0].kernel:
            return " + ".join(part.family for part in self.parts)
        kernels = [part.kernel for part in self.parts]
        return f"{self.parts[0].family}: {kernels[0] if len(set(kernels)) == 1 else ' + '.join(kernels)}"

    @property
    def pattern(self) -> str:
        """The patterns of the parts, "" for a layer without a weight."""
        return " + ".join(part.pattern for part in self.parts)

    @property
    def digests(self) -> frozenset[str]:
        """Digests under which the log may know the weight: its own, or its parts' in a plan that does not have that."""
        return frozenset({self.digest} if self.digest else {part.digest for part in self.parts})


@dataclass(frozen=True)
class Plan(Displayed):
    """All layers of a model for one target and number of threads.

    elsewhere: the operators of the model that no call computes, each with the reason. nodes: the layer of each ONNX
    node that is called otherwise.
    """

    target: str
    threads: int
    layers: tuple[LayerPlan, ...]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)

    def plot(self, path: str | Path | None = None) -> Any:
        """A picture of the time of each layer, its dense self behind it. path: where to write it (.png, .svg, .pdf).

        UsageError if nothing is known of any time, and without matplotlib.
        """
        return picture(self, path=path)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Plan:
        """The inverse of to_json. KeyError, TypeError, AttributeError or ValueError for anything else."""
        found = typed(Plan, {**data, "layers": ()})
        return replace(found, layers=tuple(_layer(row) for row in data["layers"]))

    @property
    def footprint(self) -> Footprint:
        """The bytes of all kernels, of each once."""
        kernels = {layer.symbol: layer.footprint for layer in self.layers if layer.kind == "sparse"}
        return sum(kernels.values(), Footprint())

    def layer(self, name: str) -> LayerPlan:
        """The layer of that name, of several calls the one with the weight. KeyError if there is none."""
        found = [layer for layer in self.layers if layer.layer == name]
        if not found:
            raise KeyError(name)
        return next((layer for layer in found if layer.kind == "sparse"), found[0])

    def find(self, name: str) -> LayerPlan | None:
        """The call that computes an operator of the model, by its name or that of its ONNX node; None if there is none.

        >>> plan = Plan("x86", 1, (LayerPlan("fc", "linear", "sparse", (8, 8, 1), covers=("fc", "relu")),))
        >>> plan.find("relu").layer
        'fc'
        """
        known = {name, self.nodes.get(name, name)}
        by_name = [layer for layer in self.layers if layer.layer in known]
        found = [*by_name, *(layer for layer in self.layers if known.intersection(layer.covers))]
        return next((layer for layer in found if layer.kind == "sparse"), found[0] if found else None)

    def computing(self, name: str) -> tuple[str, ...]:
        """The layers whose calls compute an operator of the model, each once, in running order.

        >>> rows = [LayerPlan(name, "linear", "sparse", (8, 8, 1), covers=(name, "cell")) for name in ("W", "R")]
        >>> Plan("x86", 1, tuple(rows)).computing("cell")
        ('W', 'R')
        """
        known = {name, self.nodes.get(name, name)}
        return tuple(dict.fromkeys(row.layer for row in self.layers if known.intersection((row.layer, *row.covers))))


def _layer(row: Mapping[str, Any]) -> LayerPlan:
    # before there was `axis`: a kernel stores the features before the tokens or pixels, whatever axis they are
    layout = row["layout"]
    axis = (layout[len(layout) - 2] if row["op"] == "linear" else layout[1]) if len(layout) > 1 else 0
    parts = [_part(part) for part in row["parts"]]
    return typed(LayerPlan, {"axis": axis, **row, "parts": parts}, "a layer")


def _part(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**_renamed(row), "candidates": [_renamed(candidate) for candidate in row["candidates"]]}


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the names of now: a plan of tesa 0.1 says "schedule" for the family."""
    return {"family" if name == "schedule" else name: value for name, value in row.items()}
