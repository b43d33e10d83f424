"""Records as lines of a log, also as tesa 0.1 wrote them."""

from __future__ import annotations

import json
from typing import Any

from tesa.records.record import Record


def line(record: Record) -> str:
    """A line of the present version."""
    return json.dumps(record.to_json())


def old_data(record: Record, statistics: bool = True) -> dict[str, Any]:
    """What tesa 0.1 wrote: "schedule", no digest of the code, the statistics in every record, first none at all."""
    names = {"family": "schedule"}
    data = {names.get(name, name): value for name, value in record.to_json().items() if name != "code"}
    data["v"] = 1
    if statistics and record.statistics is not None:
        data["statistics"] = record.statistics.to_json()
    return data


def old_line(record: Record, statistics: bool = True) -> str:
    """A line of version 1."""
    return json.dumps(old_data(record, statistics))
