"""A place for activations: in memory up to a limit, in temporary files beyond it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.scratch import Scratch

LIMIT = 1 << 30
"""Bytes in memory; further arrays go to files."""


class Shelf:
    """Arrays by key. One that was put under two keys is kept once.

    >>> with Shelf(limit=100) as shelf:
    ...     shelf.put(("a", 0), np.ones(4))
    ...     shelf.put(("b", 0), np.arange(40.0))
    ...     float(shelf.get(("b", 0)).sum()), shelf.spilled
    (780.0, 1)
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.spilled = limit, 0
        self._arrays: dict[Any, NDArray[Any] | Path] = {}
        self._bytes = 0
        self._folder: Scratch | None = None

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._arrays.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def __contains__(self, key: Any) -> bool:
        return key in self._arrays

    def put(self, key: Any, array: NDArray[Any]) -> None:
        """Keep an array."""
        if self._bytes + array.nbytes > self.limit and array.nbytes > 64 and array.dtype.kind in "fiub":
            if self._folder is None:
                self._folder = Scratch()
            path = Path(self._folder.name) / f"{self.spilled}.npy"
            np.save(path, array)
            self.spilled += 1
            self._arrays[key] = path
            return
        self._bytes += array.nbytes
        self._arrays[key] = array

    def get(self, key: Any) -> NDArray[Any]:
        """An array that was put here."""
        found = self._arrays[key]
        return found if isinstance(found, np.ndarray) else np.asarray(np.load(found))

    def drop(self, key: Any) -> None:
        """Forget an array."""
        found = self._arrays.pop(key, None)
        if isinstance(found, np.ndarray):
            self._bytes -= found.nbytes
        elif found is not None:
            found.unlink(missing_ok=True)
