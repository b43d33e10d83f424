"""The ONNX project's own node tests: operators that nobody here chose. Each that imports must run and obey the law.

What TVM gets wrong or cannot run is listed by name in onnx_nodes_exceptions.txt; a test that is not listed and fails,
or that is listed and works, is a failure here. So is a node test that stops being importable.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tests.support import rest_slow

from .onnx_nodes import KINDS, cases, judge, operator_of

EXCEPTIONS = Path(__file__).parent / "onnx_nodes_exceptions.txt"
IMPORTABLE = 1040  # of onnx 1.23's 1884 node tests, as they are; later versions have more
SAMPLE = 90  # CI runs each 90th of the node tests, and one for each operator
PARTS = 10  # in so many parts, the first of them in the quick tests


def exceptions() -> dict[str, str]:
    """Lines "name:kind reason" of the file."""
    lines = [line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


def sample() -> list[str]:
    """A fixed part of the names: every SAMPLE-th by hash, and the first of each operator."""
    first: dict[str, str] = {}
    for name in cases():
        if "_expanded" not in name and cases()[name].data_sets:
            first.setdefault(operator_of(name), name)
    return sorted({*first.values(), *(n for n in cases() if zlib.crc32(n.encode()) % SAMPLE == 0)})


def violations(names: list[str]) -> tuple[dict[str, str], int]:
    """What should work and does not, or the other way round; and how many import as they are."""
    listed, wrong, imported = exceptions(), {}, 0
    for name in names:
        for kind in KINDS:
            key, found = f"{name}:{kind}", judge(name, kind)
            imported += kind == "plain" and not found.startswith("import")
            expected = ("run", "numbers") if key in listed else ("ok", "import")
            if not found.startswith(expected):
                wrong[key] = found
    return wrong, imported


@pytest.mark.parametrize("part", rest_slow(range(PARTS)))
def test_a_sample_of_the_node_tests(part: int) -> None:
    """One for each operator, and some more."""
    wrong, imported = violations(sample()[part::PARTS])
    assert not wrong
    assert imported > 100 / PARTS / 2


@pytest.mark.slow
@pytest.mark.long
def test_all_node_tests() -> None:
    """Every one."""
    wrong, imported = violations(list(cases()))
    assert not wrong
    assert imported >= IMPORTABLE
