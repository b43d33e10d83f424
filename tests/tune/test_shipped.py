"""The logs that ship with tesa belong to the models that they were made for."""

from __future__ import annotations

import json

from tesa.models import digits_path
from tesa.pattern import digest
from tesa.tune.model import layer_tasks
from tesa.tune.places import shipped


def test_the_weights_of_digits_are_known() -> None:
    lines = (line for path in shipped().glob("*.jsonl") for line in path.read_text().splitlines())
    known = {json.loads(line)["task"]["pattern"]["digest"] for line in lines}
    missing = [task.name for task in layer_tasks(digits_path()) if digest(task.weight) not in known]
    assert not missing
