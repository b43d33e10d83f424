"""The pattern of each layer: one for all, others by name or glob, and what is kept dense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from tesa.attributes.impose import Imposed
from tesa.compress.layers import Layer
from tesa.errors import UsageError

DENSE = "dense"
INFEASIBLE = ("error", "dense")


@dataclass(frozen=True)
class Rules:
    """every: for all layers without a rule of their own, None to leave them dense. by: (name or glob, pattern), the
    last that fits holds; None: stays dense. ends: prune the first and the last layer as well. infeasible: what becomes
    of a layer that cannot have its pattern: "error", or "dense", and it is listed. depthwise: the pattern of depthwise
    filters that have no rule of their own.
    """

    every: Imposed | None
    by: tuple[tuple[str, Imposed | None], ...] = ()
    ends: bool = False
    infeasible: str = "error"
    depthwise: Imposed | None = None


def with_sparsity(pattern: str | Imposed, sparsity: float | None) -> Imposed:
    """The pattern with that share of zeros: "16x1" and 0.3, "0.3:16x1" and None, "2:4" and None.

    >>> str(with_sparsity("16x1", 0.3)), str(with_sparsity("2:4", None))
    ('0.3:block=16x1', '0.5:2:4')
    """
    if isinstance(pattern, Imposed):
        return pattern
    if sparsity is not None and not 0 <= sparsity < 1:
        raise UsageError(f"a sparsity of {sparsity:g} is no share of zeros from 0 to below 1; 0.9 is 90 %")
    numbers = re.fullmatch(r"\s*(\d+):(\d+)\s*", pattern)
    if numbers is not None and sparsity is not None:
        n, m = (int(number) for number in numbers.groups())
        if 0 < n <= m and abs(1 - n / m - sparsity) > 0.01:
            near = min(max(round((1 - sparsity) * m), 1), m)
            raise UsageError(
                f"{n}:{m} leaves {1 - n / m:g} of the elements zero, not {sparsity:g}; leave out the sparsity, "
                f"or take {near}:{m}, which leaves {1 - near / m:g}"
            )
    if sparsity is None:
        try:
            return Imposed.parse(pattern)
        except UsageError as error:
            if re.match(r"\s*[\d.]+\s*(:|$)", pattern):
                raise
            try:
                Imposed.parse(f"0.5:{pattern}")
            except UsageError:
                raise error from None
        raise UsageError(f"the pattern {pattern!r} needs a share of zeros: give a sparsity, as in 0.3:{pattern}")
    return Imposed.parse(f"{sparsity}:{pattern}")


def parse_rule(text: str, pattern: str | None = None) -> tuple[str, Imposed | None]:
    """Read "NAME=0.5:16x1", "block*.pointwise=0.9", with a pattern for all of that, or "NAME=dense".

    >>> parse_rule("fc=dense"), parse_rule("conv=1=0.5:block=4x4")[0]
    (('fc', None), 'conv=1')
    """
    for place in [i for i, letter in enumerate(text) if letter == "="]:
        name, tail = text[:place], text[place + 1 :]
        with _told(text):
            found = _rule(tail, pattern)
        if found is not None:
            return name, found[0]
    raise UsageError(f"cannot read the rule {text!r}; write NAME=0.5:16x1, NAME=2:4, or NAME=dense; * fits any name")


def _rule(tail: str, pattern: str | None) -> tuple[Imposed | None] | None:
    """The pattern behind the sign of equality of a rule, in a tuple; None where it is no rule."""
    if tail == DENSE:
        return (None,)
    if re.fullmatch(r"[\d.]+(:.+)?", tail):
        share = pattern is not None and ":" not in tail
        return (with_sparsity(pattern, _number(tail)) if share and pattern else Imposed.parse(tail),)
    return (Imposed.parse(tail),) if tail and re.fullmatch(r"\d+:\d+", tail) else None


@contextmanager
def _told(rule: str) -> Iterator[None]:
    """Errors within say which rule they are of."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"the rule {rule!r}: {error}") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def by_name(
    given: Mapping[str, str | float | Imposed | None], pattern: Imposed | None
) -> tuple[tuple[str, Imposed | None], ...]:
    """Rules of a caller: by name or glob a share, a pattern with its share, or None for dense."""
    rules: list[tuple[str, Imposed | None]] = []
    for name, value in given.items():
        with _told(f"{name}={value}"):
            rules.append((name, _given(value, pattern)))
    return tuple(rules)


def _given(value: str | float | Imposed | None, pattern: Imposed | None) -> Imposed | None:
    if value is None or value == DENSE:
        return None
    if isinstance(value, str | Imposed):
        return with_sparsity(value, None)
    return with_sparsity("unstructured" if pattern is None else pattern.text, float(value))


@dataclass(frozen=True)
class Assigned:
    """patterns: by the name of a layer; left: layers that stay dense, each with the reason."""

    patterns: Mapping[str, Imposed]
    left: tuple[tuple[str, str], ...]


def assign(rules: Rules, layers: Sequence[Layer]) -> Assigned:
    """The pattern of each layer. UsageError for a name that fits none, or a pattern that a layer cannot have."""
    _check_names(rules, layers)
    ends = {layers[0].name, layers[-1].name} if layers and not rules.ends else set()
    found: dict[str, Imposed] = {}
    left: list[tuple[str, str]] = []
    for layer in layers:
        own = [imposed for name, imposed in rules.by if fits(name, layer)]
        imposed = own[-1] if own else rules.every
        if not own and layer.op == "depthwise" and (rules.every is None or rules.every.kind != "taps"):
            imposed = rules.depthwise
            if imposed is None:
                left.append((layer.name, "depthwise filters stay dense unless they are given a pattern"))
                continue
        if not own and rules.every is not None and rules.every.kind == "taps" and layer.op != "depthwise":
            left.append((layer.name, "taps are for depthwise filters"))
            continue
        if own and imposed is None:
            left.append((layer.name, "asked for"))
        elif imposed is None:
            left.append((layer.name, "no pattern is given for it"))
        elif not own and layer.name in ends:
            left.append((layer.name, f"the {'first' if layer.name == layers[0].name else 'last'} layer is kept"))
        else:
            why = impossible(imposed, layer)
            if not why:
                found[layer.name] = imposed
            elif rules.infeasible == "dense":
                left.append((layer.name, why))
            else:
                raise UsageError(
                    f"layer {layer.name}: {why}. Give it a rule of its own, {layer.name}=dense or another pattern, "
                    "or leave dense what cannot be pruned (--infeasible dense)"
                )
    return Assigned(found, tuple(left))


def fits(name: str, layer: Layer) -> bool:
    """True if the name or glob means the layer, by its name, that of its node or of its weight."""
    return any(name == own or fnmatchcase(own, name) for own in layer.known_as())


def _check_names(rules: Rules, layers: Sequence[Layer]) -> None:
    known = [name for layer in layers for name in layer.known_as() if name]
    for name, _ in rules.by:
        if not any(fits(name, layer) for layer in layers):
            near = get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
            hint = f"the nearest are {', '.join(map(repr, near))}" if near else "the model has none"
            raise UsageError(f"no layer with a weight fits {name!r}; {hint}")


def impossible(imposed: Imposed, layer: Layer) -> str:
    """The reason why a layer cannot have a pattern, with the nearest one that it can have; "" if it can."""
    m, k = layer.rows, layer.k
    rule = imposed.imposition
    if imposed.kind == "taps" and layer.op != "depthwise":
        return (
            f"taps are for depthwise filters, and it is a {layer.op} layer; the nearest is block={imposed.sizes[0]}x1"
        )
    rows, columns = (1, 1) if rule.grain is None else rule.grain(imposed.sizes)
    inner = m // max(layer.groups, 1) if layer.op != "depthwise" else m
    if rows > inner or columns > k:
        return f"its weight of {m}x{k}{_groups(layer)} is too small for {imposed.text}; {_nearest(imposed, inner, k)}"
    if layer.groups > 1 and layer.op != "depthwise" and inner % rows:
        return (
            f"its {layer.groups} groups of {inner} outputs are not made of {rows} rows; {_nearest(imposed, inner, k)}"
        )
    if imposed.kind == "n:m" and k % imposed.sizes[1]:
        return f"its {k} columns are not made of groups of {imposed.sizes[1]}; {_nearest(imposed, inner, k)}"
    unit = (1, 1) if rule.unit is None else rule.unit(m, k, imposed.sizes)
    units = -(-m // unit[0]) * -(-k // unit[1])
    if rule.share is None and round((1 - imposed.sparsity) * units) < 1:
        return (
            f"{imposed.sparsity:g} of its weight of {m}x{k} leaves none of its {units} units of {unit[0]}x{unit[1]}; "
            f"at most {1 - 1 / units:.3g} can go"
        )
    return ""


def _groups(layer: Layer) -> str:
    return f" in {layer.groups} groups" if layer.groups > 1 and layer.op != "depthwise" else ""


def _nearest(imposed: Imposed, m: int, k: int) -> str:
    """The pattern nearest to a given one that an m x k weight can have, in words."""
    if imposed.kind == "n:m":
        n, wide = imposed.sizes
        for width in sorted(range(2, min(k, 64) + 1), key=lambda width: (abs(width - wide), width)):
            count = round(n * width / wide)
            if k % width == 0 and 0 < count < width:
                return f"the nearest is {count}:{width}"
        return f"the nearest is {imposed.sparsity:g}:unstructured"
    sizes = imposed.sizes
    rows = max((r for r in range(1, min(sizes[0], m) + 1) if m % r == 0 or r == sizes[0]), default=1)
    columns = min(sizes[1], k) if len(sizes) > 1 else 1
    return f"the nearest is {'taps=' + str(rows) if imposed.kind == 'taps' else f'{rows}x{columns}'}"
