"""The logs that ship with tesa belong to the models that they were made for."""

from __future__ import annotations

import json

from tesa.layers.network import to_network
from tesa.models import digits_path
from tesa.records.locations import shipped


def test_the_weights_of_digits_are_known() -> None:
    lines = (line for path in shipped().glob("*.jsonl") for line in path.read_text().splitlines())
    known = {row["task"]["pattern"]["digest"] for row in map(json.loads, lines) if "task" in row}
    missing = [layer.name for layer in to_network(digits_path()).layers if layer.digest not in known]
    assert not missing
