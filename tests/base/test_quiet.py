"""Silence in one thread leaves the others their say, and ends with the last who wants it."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from tesa.base.quiet import quiet, quiet_stderr


def test_what_python_prints_and_warns_of_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet(), quiet():
        print("inner")
        warnings.warn("nobody hears it", stacklevel=1)
    print("outer")
    assert capsys.readouterr() == ("outer\n", "")


def test_what_cpp_code_writes_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, b"from C++\n")
    os.write(2, b"later\n")
    assert capfd.readouterr() == ("", "later\n")


def test_other_threads_print_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        print("mine")
        for stream in (sys.stdout, sys.stderr):
            other = threading.Thread(target=print, args=("theirs",), kwargs={"file": stream, "flush": True})
            other.start()
            other.join()
    assert capfd.readouterr().out == "theirs\n"


def test_silences_that_overlap_end_with_the_last(capfd: pytest.CaptureFixture[str]) -> None:
    inside = threading.Barrier(2)
    first_is_out = threading.Event()

    def first() -> None:
        with quiet_stderr():
            inside.wait(10)
        first_is_out.set()

    def second() -> None:
        with quiet_stderr():
            inside.wait(10)
            assert first_is_out.wait(10)
            os.write(2, b"not seen\n")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    os.write(2, b"seen\n")
    print("out")
    assert capfd.readouterr() == ("out\n", "seen\n")
