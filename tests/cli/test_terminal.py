"""The command line at a terminal, in a pipe that breaks, with streams that are closed, and what it may print there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tesa.cli.streams import Clean, printable

TESA = f"{sys.executable} -m tesa"


def run(line: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A line of the shell, with `tesa` in it."""
    script = f'set -o pipefail; tesa() {{ {TESA} "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", script], capture_output=True, env={**os.environ, **env}, check=False)


@pytest.mark.parametrize(
    "line", ["tesa list patterns | head -1", "tesa compile -h | head -1", "tesa list rules --json | head -c 1"]
)
def test_a_reader_that_goes_away(line: str) -> None:
    done = run(line)
    assert done.returncode in (0, 141)
    assert done.stderr == b""
    assert done.stdout


def test_a_reader_of_messages_that_goes_away(tmp_path: Path) -> None:
    done = run(f"(sleep 0.2; echo) | head -1 > {tmp_path}/first & tesa inspect {tmp_path}/none.onnx 2>&1 | true")
    assert done.returncode in (0, 2, 141)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("tesa list patterns >&-", 0),
        ("tesa list patterns 2>&-", 0),
        ("tesa list patterns <&-", 0),
        ("tesa list patterns <&- >&- 2>&-", 0),
        ("tesa inspect none.onnx <&- >&- 2>&-", 2),
    ],
)
def test_streams_that_are_closed(line: str, code: int, tmp_path: Path) -> None:
    done = run(f"cd {tmp_path}; {line}")
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_name_says_nothing_to_the_terminal(tmp_path: Path) -> None:
    done = run(f"tesa inspect $'{tmp_path}/a\\x1b]0;title\\x07\\xff.onnx'", LC_ALL="C.UTF-8")
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
    assert b"\x07" not in done.stderr
    assert b"a?]0;title?" in done.stderr


def test_letters_that_the_encoding_lacks() -> None:
    done = run("tesa list patterns", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_a_full_disk_behind_the_output() -> None:
    done = run("tesa list patterns > /dev/full")
    assert done.returncode != 70
    assert b"Traceback" not in done.stderr


def test_what_a_terminal_obeys() -> None:
    assert printable("\x1b[31mred\x1b[0m\n\tx") == "\x1b[31mred\x1b[0m\n\tx"
    assert printable("a\x1b[2Jb\rc\x9b\u202ed") == "a?[2Jb?c??d"

    class Stream:
        encoding, text = "ascii", ""

        def write(self, text: str) -> None:
            self.text += text

    stream = Stream()
    Clean(stream).write("1 \u2192 2 \ud800")  # type: ignore[arg-type]
    assert stream.text == "1 \\u2192 2 \\ud800"
