"""Kernels in tables: every form of a weight, a sweep, a comparison, a kernel under its roof."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress

from rich.console import RenderableType
from rich.text import Text

from tesa.kernels.comparison import KernelComparison
from tesa.kernels.forms import Form, Forms
from tesa.kernels.roofline import Roofline
from tesa.kernels.sweep import Sweep
from tesa.measure.timing import Timing
from tesa.report.numbers import NOTHING, counted, milliseconds, percent, ratio, size
from tesa.report.table import FittedTable, table
from tesa.schedules.types import Problem


def problem_words(problem: Problem) -> str:
    """A problem in a few words: operator, sizes, type, threads."""
    sizes = f"{problem.m}x{problem.k}x{problem.n}" + (f", batch {problem.batch}" if problem.batch > 1 else "")
    return f"{problem.op} {sizes}, {problem.dtype}, {counted(problem.threads, 'thread')}"


def forms_view(found: Forms) -> Iterator[RenderableType]:
    """A row for each form, the fastest first, against the dense one; then the families that do not apply, and why."""
    head = f"{problem_words(found.problem)}; {found.pattern}, {percent(found.sparsity)} zeros; {found.target}"
    yield Text(head, style="bold")
    dense = found.dense
    rows = [_form_row(form, dense) for form in found if form.applies]
    columns = ("form", "configuration", "estimate, ms", "measured, ms", "over dense", "bytes", "note")
    if rows:
        kept = [name not in ("bytes", "note") or any(row[at] not in ("", NOTHING) for row in rows)
                for at, name in enumerate(columns)]  # fmt: skip
        shown = [tuple(compress(row, kept)) for row in (columns, *rows)]
        yield FittedTable(shown[0], shown[1:], right=columns[2:6], optional=("bytes", "note"))
    refused = [(form.family, form.why_not) for form in found if not form.applies]
    if refused:
        yield table(("does not apply", "why"), refused)


def form_name(form: Form) -> str:
    """The family; of one that keeps the zeros here, with that.

    >>> form_name(Form("block", {}, dense=True))
    'block (dense)'
    """
    return form.family + (" (dense)" if form.dense and form.family != "dense" else "")


def _form_row(form: Form, dense: Form | None) -> tuple[str, ...]:
    times = [(None if one is None else (one.measured_ms, one.predicted_ms)) for one in (form, dense)]
    over = None
    if times[0] is not None and times[1] is not None:
        measured = times[0][0] is not None and times[1][0] is not None
        mine, its = (pair[0] if measured else pair[1] for pair in (times[0], times[1]))
        over = its / mine if mine and its else None
    config = " ".join(f"{name}={value}" for name, value in (form.config or {}).items()) or NOTHING
    return (
        form_name(form),
        config,
        milliseconds(form.predicted_ms),
        milliseconds(form.measured_ms),
        ratio(over),
        NOTHING if form.bytes is None else size(form.bytes),
        form.note,
    )


def sweep_view(found: Sweep) -> Iterator[RenderableType]:
    """A row for each pattern and sparsity, and from where on each pattern is faster than dense."""
    yield Text(f"{problem_words(found.problem)}; {found.target}", style="bold")
    columns = ("pattern", "zeros", "form", "ms", "dense, ms", "over dense")
    rows = [
        (
            point.pattern,
            percent(point.sparsity),
            point.best.family,
            milliseconds(point.best.ms),
            milliseconds(point.dense_ms),
            ratio(point.speedup),
        )
        for point in found
    ]
    yield table(columns, rows, right=("zeros", *columns[3:]))
    for pattern in found.patterns:
        share = found.break_even(pattern)
        said = "is never faster than dense here" if share is None else f"is faster than dense from {percent(share)} on"
        yield Text(f"{pattern} {said}")


def comparison_view(found: KernelComparison) -> Iterator[RenderableType]:
    """A row for each kernel: its times and how many times as fast as the first it is."""
    columns = ("kernel", "least, ms", "median, ms", "over the first")
    rows = [
        (row.kernel, milliseconds(row.timing.min_ms), milliseconds(row.timing.median_ms), ratio(row.ratio))
        for row in found
    ]
    yield table(columns, rows, right=columns[1:])


def _millions(found: Roofline, operations: float) -> str:
    return f"{operations / 1e6:.3g} M{found.operation}"


def roofline_view(found: Roofline) -> Iterator[RenderableType]:
    """The numbers of a kernel and of its roof."""
    yield Text(found.kernel, style="bold")
    unit, dense = found.unit, found.dense_flops / found.ms / 1e6
    reached = f"{percent(min(found.share, 1.0))} reached; bound by {found.bound}"
    rows = [
        ("useful operations", _millions(found, found.flops), f"{found.gflops:.3g} {unit} in {found.ms:.3g} ms"),
        ("with the zeros", _millions(found, found.dense_flops), f"{dense:.3g} {unit}"),
        ("moved at least once", size(int(found.bytes)), f"{found.intensity:.3g} {found.operation} for each byte"),
        ("the machine", f"{found.most:.3g} {unit}", f"{found.peak.gbytes:.3g} GB/s a core"),
        ("the roof", f"{found.roof:.3g} {unit}", reached),
    ]
    yield table(("", "amount", "rate"), rows, right=("amount",))
    if found.share > 1:
        yield Text("above the roof of memory: its data comes from caches")


def timing_view(found: Timing) -> Iterator[RenderableType]:
    """One call: median, least and spread."""
    yield Text(
        f"{milliseconds(found.median_ms)} ms a call: least {milliseconds(found.min_ms)} ms, quartiles "
        f"{milliseconds(found.iqr_ms)} ms apart, {counted(found.repeats, 'sample')}"
    )
