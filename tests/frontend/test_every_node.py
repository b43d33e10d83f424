"""Every node test of the package onnx that onnxruntime passes has the right numbers, or is refused for a known reason.

refused_nodes.txt lists by name what is refused, and why. A test that is not listed and is refused, or that is listed
and works, is a failure here, as are wrong numbers, and messages that show what is inside.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from tests.propagate.onnx_nodes import cases

from .accounting import passes, verdicts

LIST = Path(__file__).parent / "refused_nodes.txt"
SAMPLE = 120  # the normal suite takes one node test of so many
REASONS = {
    "text": "holds text|works on text|holds strings",
    "classical": "classical machine learning",
    "no tensor": "is no tensor|Sequence|Optional",
    "data": "depends on data|known only when the model runs|is not known before the model runs",
    "parameter": "has to be a constant",
    "empty": "without elements|no elements|has size 0",
    "random": "draws random numbers",
    "training": "training mode",
    "operator": "this form of the operator cannot be imported|no import for the operator",
}
"""What each reason of the list means: the message of the refusal has this in it."""


def listed() -> dict[str, str]:
    """The reason for each name. In the file a line "[reason]" is followed by the names."""
    found, reason = {}, ""
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            reason = line.strip("[]")
        elif line and not line.startswith("#"):
            found[line] = reason
    return found


def surprises(names: list[str]) -> dict[str, str]:
    """What is not as the list says, by name."""
    known, wrong = listed(), {}
    for name, verdict in verdicts([name for name in names if passes(name)]).items():
        kind, _, text = verdict.partition(": ")
        if name not in known:
            expected = verdict == "right"
        else:
            expected = kind == "refused" and bool(re.search(REASONS[known[name]], text))
        if not expected:
            wrong[name] = verdict
    return wrong


def test_a_sample_of_the_node_tests() -> None:
    assert not surprises([name for name in cases() if zlib.crc32(name.encode()) % SAMPLE == 0])


@pytest.mark.slow
@pytest.mark.long
def test_all_node_tests() -> None:
    assert not surprises(list(cases()))


def test_the_list_names_tests() -> None:
    assert set(listed()) <= set(cases())
    assert set(listed().values()) <= set(REASONS)
