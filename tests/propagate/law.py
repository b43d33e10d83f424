"""The law of TeSA as functions: run a network, run it again with everything replaced that may be, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tesa.attributes.attribute import TeSA
from tesa.propagate.network import Network, Node
from tesa.propagate.registry import find

Arrays = dict[str, Any]
Change = Callable[[str, Any], Any]
Evaluate = Callable[[Node, Sequence[Any]], list[Any]]
Facts = Mapping[str, TeSA]


class DataDependentShapeError(Exception):
    """The operator's result has another shape than the module says: the importer took one that depends on data."""


def keep(name: str, value: Any) -> Any:
    """No change."""
    return value


def run(net: Network, feeds: Mapping[str, Any], evaluate: Evaluate, change: Change = keep) -> Arrays:
    """All tensors of the network. change(name, value) may replace a tensor as soon as it is there."""
    values: Arrays = {name: change(name, np.asarray(array)) for name, array in {**feeds, **net.constants}.items()}
    for node in net.nodes:
        results = evaluate(node, [values[name] for name in node.inputs])
        for name, result in zip(node.outputs, results, strict=True):
            if np.shape(result) != net.shapes[name]:
                raise DataDependentShapeError(f"{node.operator.op} gives {np.shape(result)}, not {net.shapes[name]}")
            values[name] = change(name, np.asarray(result))
    return values


def is_float(array: Any) -> bool:
    """Also for the short floats that NumPy knows by name only."""
    return np.issubdtype(array.dtype, np.floating) or "float" in array.dtype.name


def anything(rng: np.random.Generator, value: Any, places: bool = False) -> Any:
    """Random finite values of the type. places: integers may be indices, so they stay in the range of their column."""
    if is_float(value):
        return rng.normal(scale=rng.choice([1.0, 10.0, 100.0]), size=value.shape).astype(value.dtype)
    if value.dtype == bool:
        return rng.random(value.shape) < 0.5
    if value.dtype.itemsize <= 2:
        info = np.iinfo(value.dtype)
        return rng.integers(info.min, info.max + 1, size=value.shape).astype(value.dtype)
    if places:
        return rng.permuted(value, axis=0) if value.ndim else value
    info = np.iinfo(value.dtype)
    return rng.integers(max(info.min, -1000), 1000, size=value.shape).astype(value.dtype)


def replaced(tesa: Facts, rng: np.random.Generator, places: bool = False) -> Change:
    """Known elements become their constants; what is dead and not known becomes anything."""

    def change(name: str, value: Any) -> Any:
        facts = tesa[name]
        with np.errstate(all="ignore"):
            result = np.where(facts.dead, anything(rng, value, places), value)
            return np.where(facts.known, facts.value.astype(value.dtype), result)

    return change


def rounded(tesa: Facts, rng: np.random.Generator, places: bool = False) -> Change:
    """All that `replaced` does, and every tensor of few bits rounded to its grid where it is not known."""
    first = replaced(tesa, rng, places)

    def change(name: str, value: Any) -> Any:
        facts, value = tesa[name], first(name, value)
        return np.where(facts.known, value, on_grid(facts, value)).astype(value.dtype)

    return change


def on_grid(facts: TeSA, value: Any) -> Any:
    """The tensor on the grid that its facts claim to suffice. Fewer bits without a grid are a claim about nothing."""
    if not (facts.bits < 32).any():
        return value
    assert facts.quantization is not None, f"{facts!r}: fewer than 32 bits of which grid?"
    grid, result = facts.quantization, facts.rounded(value)
    steps = np.round(result / np.where(grid.scale == 0, 1, grid.scale), 3)  # numbers on the grid keep their last digits
    numbers = np.unique(np.where(facts.bits < 32, steps, 0)).size
    most = 2.0 ** facts.bits[facts.bits < 32].max() * max(grid.scale.size, grid.zero_point.size, 1) + 1
    assert numbers <= most, f"{facts!r}: {numbers} numbers are more than its bits can tell apart"
    return result


def check_tame(tesa: Facts, values: Mapping[str, Any]) -> None:
    """What is not known is finite: what the law assumes of a model."""
    for name, value in values.items():
        if is_float(value):
            wild = ~np.isfinite(value) & ~np.broadcast_to(tesa[name].known, value.shape)
            assert not wild.any(), f"{name}: {value[wild][:5]} are not known; {tesa[name]}"


def weights_of(net: Network) -> set[str]:
    """The constants that their operator's rule treats as weights."""
    found = set()
    for node in net.nodes:
        rule = find(node.operator.op)
        found |= {node.inputs[i] for i in (rule.weights if rule else ()) if i < len(node.inputs)}
    return found & set(net.constants)


def bare(net: Network, tesa: Facts, rng: np.random.Generator, places: bool = False) -> Change:
    """Nothing is materialised: dead weights become 0, every dead activation anything, even where it is known."""
    weights = weights_of(net)

    def change(name: str, value: Any) -> Any:
        other = np.zeros_like(value) if name in weights else anything(rng, value, places)
        return np.where(tesa[name].dead, other, value)

    return change


def check_known(tesa: Facts, values: Mapping[str, Any], tolerance: float = 1e-5) -> None:
    """Each known value is what the network computes. Where it computes NaN, anything goes."""
    for name, value in values.items():
        facts = tesa[name]
        if not facts.known.any():
            continue
        value = value.astype(np.float64)
        claimed = np.broadcast_to(facts.value, value.shape).astype(np.float64)
        judged = np.broadcast_to(facts.known, value.shape) & ~np.isnan(value)
        assert_close(claimed[judged], value[judged], tolerance, f"known values of {name}: {facts}")


def assert_close(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Equal up to tolerance * max(1, largest finite expected); infinities where they belong."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(np.minimum(finite.max(initial=0.0), 1e4)))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def check_same(net: Network, expected: Arrays, found: Arrays, tolerance: float, what: str) -> None:
    """The outputs agree; where the network computes NaN there is nothing to agree with."""
    for name in net.outputs:
        judged = ~np.isnan(expected[name].astype(np.float64))
        assert_close(found[name][judged], expected[name][judged], tolerance, f"{what}: output {name}")


def check_law(
    net: Network,
    tesa: Facts,
    feeds: Mapping[str, Any],
    evaluate: Evaluate,
    seed: int,
    tolerance: float = 1e-6,
    places: bool = False,
) -> Arrays:
    """Known values are right, and no way to replace things changes an output. Returns the values of the plain run."""
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        plain = run(net, feeds, evaluate)
        check_known(tesa, plain, max(tolerance, 1e-5))
        changes = {
            "the law": replaced(tesa, rng, places),
            "nothing materialised": bare(net, tesa, rng, places),
            "the law and the grids": rounded(tesa, rng, places),
            "the grids alone": lambda name, value: on_grid(tesa[name], value),
        }
        for what, change in changes.items():
            check_same(net, plain, run(net, feeds, evaluate, change), tolerance, what)
    return plain
