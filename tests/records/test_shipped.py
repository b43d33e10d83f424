"""The logs that ship with tesa belong to the models that they were made for."""

from __future__ import annotations

import json

from tesa.attributes.patterns import digest
from tesa.models import digits_path
from tesa.records.locations import shipped
from tesa.tune.model import layer_tasks


def test_the_weights_of_digits_are_known() -> None:
    lines = (line for path in shipped().glob("*.jsonl") for line in path.read_text().splitlines())
    known = {row["task"]["pattern"]["digest"] for row in map(json.loads, lines) if "task" in row}
    missing = [task.name for task in layer_tasks(digits_path()) if digest(task.weight) not in known]
    assert not missing
