"""Functions that behave as badly as what the harness looks for, to see that it finds it."""

from __future__ import annotations

import os
import signal
import time

from tesa.errors import ModelError


def crash(data: bytes) -> str:
    """Die as C++ code does that reads where nothing is."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


def leave(data: bytes) -> str:
    """End the process, as a library may that thinks nobody else is there."""
    os._exit(3)


def spin(data: bytes) -> str:
    """Never end, at work."""
    while True:
        pass


def sleep(data: bytes) -> str:
    """Never end, waiting."""
    time.sleep(600)
    return ""


def eat(data: bytes) -> str:
    """Take more memory than there may be."""
    return str(len(bytearray(b"x") * (2 << 30)))


def fail(data: bytes) -> str:
    """Raise what no user understands."""
    raise IndexError("list index out of range")


def refuse(data: bytes) -> str:
    """Raise what a user understands."""
    raise ModelError("model.onnx: the file is empty. Export it again")


def answer(data: bytes) -> str:
    """Take it."""
    return f"{len(data)} bytes"
