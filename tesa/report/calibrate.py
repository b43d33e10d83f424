"""A calibration as a table: what was measured, and how well the cost table predicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import percent
from tesa.report.plain import plain
from tesa.report.table import table

if TYPE_CHECKING:
    from tesa.tune.calibrate import Calibration

_COLUMNS = ("family", "kernels", "layers", "error: half below", "80 % below", "95 % below", "bare estimate")
_SHOWN = 5  # reasons of failures


def calibration_data(made: Calibration) -> dict[str, Any]:
    """Plain data for --json: everything but the measured layers themselves."""
    facts = made.table
    about = {name: getattr(facts, name) for name in ("device", "cpu", "target", "threads")}
    counts = {"layers": len(facts.layers), "kernels": facts.samples, "added": made.added, "seconds": facts.seconds}
    return dict(plain({"path": made.path, **about, **counts, "failed": made.failed, "quality": made.quality}))


def calibration_view(made: Calibration) -> Iterator[RenderableType]:
    """The cost table's file, the errors of each family on layers that were left out, and how good the picks are."""
    found, quality = made.table, made.quality
    yield Text(f"{made.path}: {found.described}", style="bold")
    yield Text(f"{made.added} kernels of them measured now, {found.seconds / 60:.1f} minutes of measuring in all")
    if not quality.families:
        yield Text("too few layers to predict anything; run tesa calibrate again, it goes on from here", style="yellow")
        return
    rows = [
        (f.name, str(f.kernels), str(f.layers), *map(_error, (f.median, f.p80, f.p95, f.bare)))
        for f in quality.families
    ]
    yield table(_COLUMNS, rows, right=_COLUMNS[1:])
    yield Text(
        "errors of times predicted for layers that were left out, each from the times of all the others; which numbers "
        "matter, and how wide the ranges are, was learnt from all layers together, the one left out among them: for "
        "layers that were never measured errors are a little larger",
        style="dim",
    )
    if quality.near is not None and quality.loss is not None:
        yield Text(
            f"picked without measuring, on {quality.layers} layers left out: {percent(quality.near)} within 10 % of "
            f"the best measured kernel ({percent(quality.near_by_estimate)} by bare estimates); "
            f"{_error(quality.loss)} slower on average"
        )
    if made.failed:
        yield Text(f"{len(made.failed)} kernels failed and do not count:", style="yellow")
        yield from (Text(f"  {line}") for line in made.failed[:_SHOWN])


def _error(share: float) -> str:
    """The error of a time, which may be more than all of it.

    >>> _error(0.0871), _error(2.3)
    ('8.7 %', '230 %')
    """
    return f"{100 * share:.{0 if share >= 1 else 1}f} %"
