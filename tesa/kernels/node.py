"""Calls a kernel of WebAssembly from Python: in Node.js, with its arguments as files."""

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.scratch import Scratch
from tesa.base.told import milliseconds
from tesa.build.package import ENTRY
from tesa.errors import CheckFailed
from tesa.measure.node.session import Ended, Place, Refused, Session
from tesa.measure.timing import SLICE_MS, Timing, calls_per_slice, rounds_within
from tesa.targets.target import Target

_LIMIT_S = 600.0
_MOST_CALLS = 100_000


class NodeKernel:
    """A module of tesa.build.wasm_kernel, called as kernel(*inputs, y), which writes y.

    sizes: bytes of each argument, those of y last. The process starts with the first call, and ends with this object.
    """

    def __init__(self, path: Path, target: Target, sizes: Sequence[int], alignment: int) -> None:
        self._path, self._target = path, target
        skew = 0 if alignment >= 64 else alignment
        self._places = [Place(size, None, skew) for size in sizes]
        self._folder = Scratch()
        self._session: Session | None = None
        self._module = 0

    def __call__(self, *arrays: NDArray[Any]) -> None:
        """Run it. Raises CheckFailed if it traps, or if Node.js ends."""
        *inputs, y = arrays
        session = self._open()
        file = Path(self._folder.name) / "array"
        for index, array in enumerate(inputs):
            array.tofile(file)
            self._ask({"do": "write", "index": index, "file": str(file)}, session)
        status = self._ask({"do": "call"}, session)["status"]
        if status:
            raise CheckFailed(f"the kernel answers {status}")
        self._ask({"do": "read", "index": len(inputs), "file": str(file)}, session)
        y[...] = np.fromfile(file, y.dtype).reshape(y.shape)

    def time(self, inputs: Sequence[NDArray[Any]], budget_ms: float) -> Timing:
        """The time of a call with warm caches, within about budget_ms."""
        session = self._open()
        file = Path(self._folder.name) / "array"
        for index, array in enumerate(inputs):
            array.tofile(file)
            self._ask({"do": "write", "index": index, "file": str(file)}, session)

        def slice_of(calls: int) -> float:
            told = self._ask({"do": "time", "calls": calls, "other": 0}, session)
            return milliseconds(told.get("mean"), "Node.js")

        self._ask({"do": "call"}, session)
        number = calls_per_slice(min(slice_of(1), slice_of(3)), 1, _MOST_CALLS)
        first = slice_of(number)
        rounds = rounds_within(budget_ms, max(first * number, SLICE_MS / 2))
        return Timing.of([first, *(slice_of(number) for _ in range(rounds - 1))])

    def _open(self) -> Session:
        if self._session is None:
            session = Session(self._target.features)
            weakref.finalize(self, session.close)
            try:
                self._module = session.load(self._path, ENTRY, self._places, _LIMIT_S)
            except (Refused, Ended) as error:
                session.close()
                raise CheckFailed(f"the kernel cannot be loaded: {error}") from error
            self._session = session
        return self._session

    def _ask(self, request: dict[str, Any], session: Session) -> dict[str, Any]:
        try:
            return session.ask({**request, "id": self._module}, _LIMIT_S)
        except Ended as error:
            self._session = None
            raise CheckFailed(f"the kernel did not come to its end: {error}") from error
        except Refused as error:
            raise CheckFailed(f"the kernel failed: {error}") from error
