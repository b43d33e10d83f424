"""TVM's notes about single operators kept off the screen."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from tesa.frontend.importer import quiet


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep TVM's notes about an operator to itself: it writes them to stderr past Python, be all well or not."""
    sys.stderr.flush()
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        with quiet():
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
