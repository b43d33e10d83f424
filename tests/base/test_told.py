"""What others tell is held against what it may be."""

from __future__ import annotations

import json

import pytest

from tesa.base import told
from tesa.base.told import Untruthful


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        ".hidden",
        "-rf",
        "a\0b",
        "a\nb",
        "a b ",
        "x" * 81,
        "ä",
        3,
        None,
        b"a",
    ],
)
def test_names_of_files(name: object) -> None:
    with pytest.raises(Untruthful, match="a CPU"):
        told.word(name, "a CPU")


@pytest.mark.parametrize(
    "name", ["znver5", "cortex-a76", "emulated aarch64", "node-znver5", "x86-64-v3", "ARMv8.2_x+y"]
)
def test_names_of_cpus(name: str) -> None:
    assert told.word(name, "a CPU") == name


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 50_000, "[" * 100 + "]" * 100, "NaN", '{"a": Infinity}', "\ud800", "1" * 5000, b"\xff"]
)
def test_json_that_is_none(text: str | bytes) -> None:
    with pytest.raises(Untruthful):
        told.parsed(text)


@pytest.mark.parametrize("depth", [1, 63, 64, 65, 66, 500])
def test_json_that_is_deep(depth: int) -> None:
    """Brackets in texts neither count nor hide those that do."""
    kinds = [("[", "]", 0), ('{"a]}":', "}", 0), ('["]",', ',"["]', 0), ('[["\\\\","\\"]"],', "]", 1)]
    for opens, ends, more in kinds:  # more: levels at the bottom of its own
        text = opens * depth + "1" + ends * depth
        if depth + more <= told.DEEPEST:
            assert told.parsed(text) == told.parsed(text.encode()) == json.loads(text)
            told.shallow(json.loads(text))
            continue
        with pytest.raises(Untruthful, match="deeper than 64"):
            told.parsed(text)
        with pytest.raises(Untruthful, match="deeper than 64"):
            told.shallow(json.loads(text))


def test_json_that_is_too_long() -> None:
    assert told.parsed("[1]", 3) == [1]
    with pytest.raises(Untruthful, match="are enough"):
        told.parsed("[10]", 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300, True, "1", None, [1.0]])
def test_times_that_no_clock_tells(value: object) -> None:
    with pytest.raises(Untruthful, match="a time of"):
        told.milliseconds(value, "the device")


def test_a_line_has_nothing_that_a_terminal_obeys() -> None:
    assert told.line("a\x1b]0;title\x07b\r\nc\u202ed") == "a?]0;title?b  c?d"
    assert len(told.line("x" * 10**6)) == 300
