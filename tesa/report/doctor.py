"""The findings of `tesa doctor` as a table."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tesa.doctor.check import FAILED, INFO, OK
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
