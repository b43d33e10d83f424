"""The channels that compaction removed from a model, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.base.extras import install
from tesa.report.numbers import error as error_text
from tesa.report.numbers import percent
from tesa.report.table import table

if TYPE_CHECKING:
    from tesa.compact import Compacted


def compaction_view(compacted: Compacted, error: float | None, path: str, *, copied: bool) -> Iterator[RenderableType]:
    """A row for each cut, what stays and why, parameters, MACs and bytes, and whether the result was checked.

    error: the largest relative difference of an output, None if it was not looked for. path: where it was written.
    copied: that is the given file, since the result would not be smaller.
    """
    rows = [
        (r.layer, r.tensor, str(r.axis), str(r.before), str(r.after), _less(r.before, r.after))
        for r in compacted.removed
    ]
    if rows:
        columns = ("layer", "weight", "axis", "before", "after", "less")
        yield table(columns, rows, title="Removed", right=("before", "after", "less"))
    else:
        yield Text("nothing could be removed")
    yield from (Text(f"could go but stays: {reason}") for reason in compacted.kept)
    if not compacted.removed and copied:
        yield Text(f"{path} is a copy of the given file")
        return
    for what, before, after in (
        ("parameters", compacted.parameters_before, compacted.parameters_after),
        ("multiply-adds", compacted.macs_before, compacted.macs_after),
        ("bytes", compacted.size_before, compacted.size_after),
    ):
        change = f"{_less(before, after)} less" if after <= before else f"{after / max(before, 1):.1f} times as many"
        yield Text(f"{what}: {before} -> {after}, {change}")
    if copied:
        yield Text(f"it would take more bytes than the given file: {path} is a copy of that")
        return
    if error is None:
        yield Text(f"not checked: onnxruntime is not installed ({install('bench')})")
    else:
        yield Text(f"checked with onnxruntime on random inputs: largest relative error {error_text(error)}")
    yield Text(f"wrote {path}")


def _less(before: int, after: int) -> str:
    return percent(1 - after / before if before else 0.0)
