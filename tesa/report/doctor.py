"""The findings of `tesa doctor` as a table."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tesa.doctor.check import FAILED, INFO, MISSING, OK
from tesa.doctor.checks import Diagnosis
from tesa.report.table import table, verdict

_STYLES = {OK: True, FAILED: False, INFO: None}


def diagnosis_view(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    """One row per check, its group named once."""
    rows, group = [], ""
    for check in diagnosis.checks:
        status = Text("missing", style="yellow")
        if check.status in _STYLES:
            status = verdict(_STYLES[check.status], ("ok", "FAILED", ""))
        rows.append((check.group if check.group != group else "", check.name, status, check.found, check.hint))
        group = check.group
    yield table(("", "what", "", "found", "what to do"), rows)
    yield Text(next_step(diagnosis))


def next_step(diagnosis: Diagnosis) -> str:
    """The command to run next: what mends the first thing that failed, or a first look at a model."""
    if diagnosis.failures:
        first = diagnosis.failures[0]
        return f"Next: mend {first.name!r} ({first.hint or first.found}), then run tesa doctor again."
    missing = [check.name for check in diagnosis.checks if check.group == "versions" and check.status == MISSING]
    less = f" (without {' and '.join(missing)}: see above)" if missing else ""
    look = "tesa inspect model.onnx looks at a model of yours"
    if "onnxruntime" in missing:
        return f"tesa works here{less}. Next: {look}."
    return f"tesa works here{less}. Next: python -m tesa.models.demo compiles and times a model that ships; {look}."
