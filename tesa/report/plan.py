"""A plan as a table, and one layer of it explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tesa.choose.plan import LEFT_OUT, Candidate, LayerPlan, Part, Plan
from tesa.report.numbers import NOTHING, dims, footprint, milliseconds, percent, ratio, size
from tesa.report.operators import short_operator
from tesa.report.table import FittedTable, table
from tesa.report.times import chosen, layer_times

if TYPE_CHECKING:
    from tesa.compiler import CompiledModel

_COLUMNS = ("layer", "op", "shape", "pattern", "sparsity", "kernel", "ms", "dense ms", "speed-up", "note")
_NUMBERS = ("sparsity", "ms", "dense ms", "speed-up")
_OPTIONAL = (
    "note",
    "dense ms",
    "pattern",
    "shape",
    "op",
    "sparsity",
)  # the first goes first where a terminal is narrow


def plan_table(plan: Plan, at: str = "") -> RenderableType:
    """One row per layer in running order: what it is, which kernel it got, and what that gains over dense.

    A time with "~" in front is the estimate: it was not measured. at: the size of the model, where it has several.
    """
    title = f"Plan for {plan.target}, {plan.threads} thread{'s' if plan.threads != 1 else ''}"
    title += f"; {at}" if at else ""
    return FittedTable(
        _COLUMNS, [_row(layer) for layer in plan.layers], title=title, right=_NUMBERS, optional=_OPTIONAL, fitted=True
    )


def compiled_view(compiled: CompiledModel) -> Iterator[RenderableType]:
    """The plan of a model that was just compiled, what was left as it is and why, and where it was written."""
    for plan, at in [(one.plan, str(one)) for one in compiled.sizes] or [(compiled.plan, "")]:
        yield plan_table(plan, at)
        yield from map(Text, left_out(plan))
        if plan.footprint.total:
            yield Text(f"kernels: {footprint(plan.footprint)}")
    for reason in compiled.skipped:
        yield Text(f"left as it is: {reason}")
    if compiled.made:
        yield Text(f"code: {compiled.made}")
    aside = f", {compiled.header}" if compiled.header else ""
    description = compiled.path.with_suffix(".json")
    yield Text(f"wrote {compiled.path} ({size(compiled.path.stat().st_size)}){aside} and {description}")


def left_out(plan: Plan) -> Iterator[str]:
    """A line for each family that was left out of some layers, with the reason of one of them.

    >>> row = Candidate("unrolled", note="left out: 9,000 instructions, the budget is 8,000")
    >>> part = Part("unstructured", 32, 10, "", "dense", candidates=(Candidate("dense"), row))
    >>> list(left_out(Plan("x86", 1, (LayerPlan("fc", "linear", "sparse", (8, 8, 1), parts=(part,)),))))
    ['unrolled: left out in 1 of 1 layers with weights, as in fc: 9,000 instructions, the budget is 8,000']
    """
    layers = [layer for layer in plan.layers if layer.parts]
    found: dict[str, list[tuple[str, str]]] = {}
    for layer in layers:
        for candidate in layer.parts[0].candidates:
            if candidate.note.startswith(LEFT_OUT):
                found.setdefault(candidate.family, []).append((layer.layer, candidate.note[len(LEFT_OUT) :]))
    for name, rows in found.items():
        layer_name, why = rows[0]
        yield f"{name}: left out in {len(rows)} of {len(layers)} layers with weights, as in {layer_name}:{why}"


DROPPED = "a zero that is left out computes nothing: 0 * NaN and 0 * infinity count as 0 there"


def explanation(layer: LayerPlan, plan: Plan | None, at: str = "", asked: str = "") -> Iterator[RenderableType]:
    """The reasons for a layer's kernel: the facts about it, then for each part the candidates and their times.

    plan: which the layer is of, None where it is shown alone. asked: the operator that was asked for, where it is one
    of several that the layer's kernel computes.
    """
    times = layer_times(layer)
    if plan is not None and asked and asked != layer.layer and asked in layer.covers:
        yield Text(f"{asked} is computed in {_kernels(layer.layer, plan.computing(asked))}")
    head = f"{layer.layer}: {layer.op} {dims(layer.shape)}, {layer.kind}"
    yield Text(head, style="bold")
    if plan is not None:
        yield Text(f"target {plan.target}, threads {plan.threads}" + (f"; {at}" if at else ""))
    if len(layer.covers) > 1:
        yield Text(f"computes {', '.join(layer.covers)}")
    if layer.epilogue:
        yield Text(f"fused after it: {layer.epilogue}")
    if layer.kind == "sparse":
        if layer.codes:
            yield Text(f"integers: {layer.codes}")
        yield Text(f"zeros among the weights: {percent(layer.sparsity)}")
        if layer.sparsity:
            yield Text(DROPPED)
    if times.speedup is not None:
        yield Text(f"{ratio(times.speedup)} the speed of its dense self{'' if times.measured else ', by the estimate'}")
    if layer.footprint.total:
        yield Text(f"kernel: {footprint(layer.footprint)}")
    if layer.note:
        yield Text(f"note: {layer.note}")
    yield Text("facts:" if layer.facts else "facts: none")
    yield from (Text(f"  {fact}") for fact in layer.facts)
    for number, part in enumerate(layer.parts, start=1):
        by = f", computed by {part.kernel}" if part.kernel else ""
        head = f"part {number} of {len(layer.parts)}"
        yield Text(f"{head}: {part.pattern}, {part.bits} bits, {part.nonzeros} non-zeros{by}")
        if not part.kernel:
            yield from _choice(part)
    if layer.parts and layer.parts[0].kernel:  # the first part of a decomposition has what is said of all of it
        yield from _choice(layer.parts[0])


def _kernels(shown: str, names: tuple[str, ...]) -> str:
    """The kernels that compute an operator in words. shown: the layer of the one that is explained."""
    if len(names) < 2:
        return f"the kernel of {shown}"
    return f"{len(names)} kernels: of {', '.join(names)}; this is the one of {shown}"


def _choice(part: Part) -> Iterator[RenderableType]:
    yield _candidates(part)
    yield Text(f"why: {part.reason or 'no reason was recorded'}")


def _row(layer: LayerPlan) -> tuple[str, ...]:
    times = layer_times(layer)
    chosen_text, dense_text = (
        ("" if ms is None or times.measured else "~") + milliseconds(ms) for ms in (times.chosen_ms, times.dense_ms)
    )
    return (
        layer.layer,
        " ".join(filter(None, (short_operator(layer.op, layer.layer), layer.precision))),
        dims(layer.shape),
        layer.pattern or NOTHING,
        percent(layer.sparsity) if layer.kind == "sparse" else NOTHING,
        layer.kernel or NOTHING,
        chosen_text,
        dense_text,
        ratio(times.speedup),
        layer.note,
    )


def duration(time: float | None) -> str:
    """Milliseconds with three significant digits, in the unit that reads best.

    >>> [duration(ms) for ms in (0.005867, 0.3134, 12.345, 2345.6, 0, None)]
    ['5.87 us', '0.313 ms', '12.3 ms', '2.35 s', '0 ms', '-']
    """
    if time is None:
        return NOTHING
    if time >= 1000:
        return f"{milliseconds(time / 1000)} s"
    return f"{milliseconds(time * 1000)} us" if 0 < time < 0.1 else f"{milliseconds(time)} ms"


def _candidates(part: Part) -> Table:
    taken = chosen(part)
    ordered = sorted(part.candidates, key=_rank)
    best = taken.measured_ms if taken else None
    rows = [_candidate_row(candidate, best, candidate is taken) for candidate in ordered]
    columns = ["", "kernel", "configuration", "predicted ms", "measured ms", "vs chosen", "bytes", "note"]
    if all(candidate.bytes is None for candidate in part.candidates):
        columns.remove("bytes")
        rows = [(*row[:-2], row[-1]) for row in rows]
    return table(columns, rows, right=columns[3:-1])


def _rank(candidate: Candidate) -> tuple[float, float]:
    """Measured ones first, fastest first; then the others by their estimate."""
    measured, predicted = (float("inf") if ms is None else ms for ms in (candidate.measured_ms, candidate.predicted_ms))
    return measured, predicted


def _candidate_row(candidate: Candidate, best: float | None, taken: bool) -> tuple[str, ...]:
    against = candidate.measured_ms / best if best and candidate.measured_ms is not None else None
    return (
        "*" if taken else "",
        candidate.family,
        " ".join(f"{key}={value}" for key, value in candidate.config.items()) or NOTHING,
        milliseconds(candidate.predicted_ms),
        milliseconds(candidate.measured_ms),
        ratio(against),
        NOTHING if candidate.bytes is None else size(candidate.bytes),
        candidate.note,
    )
