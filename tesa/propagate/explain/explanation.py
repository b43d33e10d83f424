"""explain: why a layer's facts hold, as a chain from the layer back to where each fact comes from.

A value came forward from the values that the tensor's operator reads. A dead element came backward, through all the
operators that read the tensor: from what is dead among their outputs and from the zeros of their other inputs. Bits
come from either side. The walk ends at a user's mask, a weight in the file, a quantization, a tensor that nothing
reads, or an operator that by itself reads only a part of its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tesa.attributes.attribute import TeSA, share
from tesa.base.display import Displayed
from tesa.errors import UsageError
from tesa.frontend.names import did_you_mean
from tesa.propagate.explain.provenance import Key, Provenance, region
from tesa.propagate.model import TesaModel
from tesa.propagate.network import Node

FACTS = ("value", "live", "bits")
DEPTH = 16


@dataclass(frozen=True)
class Fact:
    """One kind of fact about one tensor, and the facts it was deduced from.

    tensor: its name in TesaModel.tesa; label: the same for people ("weight of conv2"). fact: "value", "live" or "bits".
    text: what holds, for what share of the elements; share: of the elements, 0 to 1. reasons: the origins in words.
    because: what it was deduced from. seen: it stands elsewhere in the same explanation, with what it was deduced from.
    more: how many facts behind this one were left out, because they are too far away.
    """

    tensor: str
    label: str
    fact: str
    text: str
    share: float
    reasons: tuple[str, ...]
    because: tuple[Fact, ...] = ()
    seen: bool = False
    more: int = 0

    def lines(self, indent: int = 0) -> Iterator[str]:
        """The fact and what is behind it, each on a line, those behind two columns further in."""
        pad = "  " * indent
        reasons = f"  <- {', '.join(self.reasons)}" if self.reasons else ""
        yield f"{pad}{self.label}: {self.text}{reasons}{' (see above)' if self.seen else ''}"
        for fact in self.because:
            yield from fact.lines(indent + 1)
        if self.more:
            yield f"{pad}  ... {self.more} more fact{'s' if self.more > 1 else ''} behind this"


@dataclass(frozen=True)
class Explanation(Displayed):
    """The facts about the tensors of a layer, and why they hold. op: its operators; note: anything else to say.

    Prints as an indented list: a fact, and below it what it was deduced from.
    """

    layer: str
    op: str
    facts: tuple[Fact, ...]
    note: str = ""

    def __str__(self) -> str:
        lines = [f"{self.layer}: {self.op}", *(line for fact in self.facts for line in fact.lines(1))]
        if not self.facts:
            lines.append("  nothing is known of its tensors: all of them live, unknown, of full precision")
        return "\n".join([*lines, f"  note: {self.note}"] if self.note else lines)

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump."""
        facts = [_plain(fact) for fact in self.facts]
        return {"layer": self.layer, "op": self.op, "facts": facts, "note": self.note}


def explain(model: TesaModel, layer: str, *, depth: int = DEPTH) -> Explanation:
    """The chain of facts from a layer's tensors back to their origins.

    layer: as in the tables of tesa; the name of an ONNX node, or of a variable or tensor of model.tesa, will do as
    well. depth: how many steps back are shown. UsageError, naming the nearest layers, if there is none of that name.

    >>> import numpy as np
    >>> from tesa.frontend import import_onnx
    >>> from tesa.models import digits_path
    >>> from tesa.propagate import propagate
    >>> mask = np.ones((64, 32, 1, 1), bool)
    >>> mask[:48] = False
    >>> model = propagate(import_onnx(digits_path(), masks={"block1.pointwise": mask}))
    >>> explain(model, "block1.pointwise").facts[0].text
    '97.3 % known to be 0'
    """
    wanted = (layer, model.imported.nodes.get(layer, layer))
    nodes = [node for node in model.network.nodes if node.operator.layer in wanted]
    nodes = nodes or [node for node in model.network.nodes if layer in (node.var, *node.inputs, *node.outputs)][:1]
    if not nodes and wanted[1] in model.imported.dropped:
        return Explanation(wanted[1], "left out", (), "no output of the model depends on it")
    if not nodes and wanted[1] in model.imported.folded:
        return Explanation(wanted[1], "folded", (), "it does nothing at inference, or is a part of what is around it")
    if not nodes:
        names = dict.fromkeys(node.operator.layer for node in model.network.nodes)
        known = f"Its layers: {', '.join(list(names)[:8])}{', ...' if len(names) > 8 else ''}"
        hint = did_you_mean(layer, names) or known
        raise UsageError(f"{model.imported.source or 'the model'}: no layer {layer!r}. {hint}")
    walk = _Walk(model)
    facts = tuple(fact for name in _tensors(nodes) for kind in FACTS for fact in walk.fact((name, kind), depth))
    ops = ", ".join(dict.fromkeys(node.operator.op for node in nodes))
    name = nodes[0].operator.layer
    return Explanation(name, ops, facts, model.notes.get(name, ""))


def _tensors(nodes: Sequence[Node]) -> list[str]:
    """Weights and inputs of a layer, then its outputs; not what passes between its own operators."""
    written = [name for node in nodes for name in node.outputs]
    read = [name for node in nodes for name in node.inputs if name not in written]
    constants = [name for name in read if "#" in name]
    return list(dict.fromkeys([*constants, *(n for n in read if n not in constants), *nodes[-1].outputs]))


@dataclass
class _Walk:
    """The making of one explanation: every fact is told in full once."""

    model: TesaModel
    told: set[Key] = field(default_factory=set)
    path: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.causes = Provenance(self.model)

    def fact(self, key: Key, depth: int) -> Iterator[Fact]:
        """The fact, if there is one of that kind worth telling."""
        if not self.causes.told(key):
            return
        text, part = describe(self.model.tesa[key[0]], key[1])
        causes = [cause for cause in self.causes.of(key) if cause not in self.path]  # bits may rest on each other
        head = (key[0], self.label(key[0]), key[1], text, part, self._reasons(key, bool(causes)))
        if key in self.told:
            yield Fact(*head, seen=bool(causes))
        elif depth <= 0 and causes:
            yield Fact(*head, more=self._count(key))
        else:
            self.told.add(key)
            self.path.append(key)
            because = tuple(f for cause in causes for f in self.fact(cause, depth - 1))
            self.path.pop()
            yield Fact(*head, because=because)

    def label(self, tensor: str) -> str:
        """The name of a tensor for people: a weight of, or the output of, a layer."""
        producer, readers = self.causes.producer.get(tensor), self.causes.consumers.get(tensor, [])
        if producer is not None:
            layer = producer.operator.layer
            following = [n for n in readers if n.operator.layer == layer]
            inner = f" (before {_short(following[0])})" if following else ""
            part = f" {producer.outputs.index(tensor)}" if len(producer.outputs) > 1 else ""
            return f"output{part} of {layer}{inner}"
        if tensor in self.model.network.constants:
            weight = any(facts.tensor == tensor for facts in self.model.weights.values())
            return f"{'weight' if weight else 'constant'} of {readers[0].operator.layer if readers else tensor}"
        return f"input {tensor} of the model"

    def _reasons(self, key: Key, deduced: bool) -> tuple[str, ...]:
        origins = sorted(origin for origin in self.model.tesa[key[0]].origins if origin.fact == key[1])
        if key[1] == "live" and not self.causes.consumers.get(key[0]):
            return ("nothing reads it",)
        partly = ", which reads only a part of it" if key[1] == "live" and not deduced else ""
        return tuple(f"{origin}{partly}" for origin in origins)

    def _count(self, key: Key) -> int:
        """The number of facts behind one that are told nowhere yet."""
        seen, waiting = {key}, [key]
        while waiting:
            new = [cause for cause in self.causes.of(waiting.pop()) if cause not in seen and cause not in self.told]
            seen.update(new)
            waiting += new
        return len(seen) - 1


def _short(node: Node) -> str:
    return node.operator.op.removeprefix("relax.").removeprefix("nn.")


def describe(tesa: TeSA, kind: str) -> tuple[str, float]:
    """(what holds, the share of the elements it holds for) of one kind of fact.

    >>> from tesa.attributes.attribute import from_mask
    >>> describe(from_mask([True, False]), "value")
    ('50 % known to be 0', 0.5)
    """
    if kind == "live":
        part = share(region(tesa, kind), tesa.shape)
        return f"{_percent(part)} dead{', beside what is known' if tesa.known.any() else ''}", part
    if kind == "bits":
        low = region(tesa, kind)
        widths = "/".join(str(b) for b in np.unique(tesa.bits[low]))
        part = share(low, tesa.shape)
        grid = f" ({tesa.quantization})" if tesa.quantization is not None else ""
        return f"{widths} bits{grid}" + ("" if part == 1 else f" in {_percent(part)}"), part
    zero, known = share(tesa.zero, tesa.shape), share(tesa.known, tesa.shape)
    parts = [f"{_percent(zero)} known to be 0"] if zero else []
    if known > zero:
        parts.append(f"{_percent(known - zero)} a known constant")
    return ", ".join(parts), known


def _percent(part: float) -> str:
    text = f"{100 * part:.1f}"
    if text in ("0.0", "100.0") and part not in (0, 1):
        return "less than 0.1 %" if part < 0.5 else "more than 99.9 %"
    return f"{text.removesuffix('.0')} %"


def _plain(fact: Fact) -> dict[str, Any]:
    data = {name: getattr(fact, name) for name in ("tensor", "label", "fact", "text", "share", "seen", "more")}
    return {**data, "reasons": list(fact.reasons), "because": [_plain(cause) for cause in fact.because]}
