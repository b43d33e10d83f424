"""Measures kernels of WebAssembly in Node.js: links each candidate, compares it with NumPy and times it in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.hostinfo import usable_cpus
from tesa.base.scratch import Scratch
from tesa.base.told import Untruthful, milliseconds
from tesa.build.product import Product
from tesa.build.workspace import TOP, workspace_object
from tesa.errors import UsageError
from tesa.measure.cold_cache import OTHER_BYTES, host_caches, other_bytes
from tesa.measure.device import this_device
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.node.engine import engine
from tesa.measure.node.session import Ended, Place, Refused, Session
from tesa.measure.reference import Inputs, Reference, reference
from tesa.measure.timing import FIRST_ROUNDS, UNTIMED, Timing, calls_per_slice, rounds_within
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target, host_cpu

GUARD = 256
"""Bytes on each side of a result that a kernel must leave alone."""

_ONE_S = 60.0  # for a kernel to be loaded, which compiles it, to be checked, or to have its turn
_HOPELESS = 1.5  # times the best median, after the first rounds
_KINDS = {"load": FailureKind.LOAD, "trap": FailureKind.CRASH, "call": FailureKind.CALL}


class NodeRunner:
    """A Runner (tesa.measure.interfaces) in Node.js: all kernels of a call take turns in one process.

    one_s: seconds for one kernel to be compiled, or to have its turn. alone: held while it measures, for a caller that
    must not disturb it from another thread.

    Raises UsageError where there is no Node.js, or no linker.
    """

    def __init__(
        self, target: Target, *, one_s: float = _ONE_S, alone: AbstractContextManager[Any] | None = None
    ) -> None:
        engine()
        target.toolchain.compiler()
        self._target, self._one_s = target, one_s
        self._alone: AbstractContextManager[Any] = nullcontext() if alone is None else alone

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """The time of each kernel, or why it has none, in their order; budget_ms=0 only compares."""
        if not kernels:
            return []
        with self._alone, Scratch() as folder:
            return _Measurement(self._target, Path(folder), self._one_s, problem, weight).run(kernels, budget_ms)

    def device(self) -> dict[str, Any]:
        """This machine's Node.js, as records name it: the CPU with "node-" in front, and the versions as engine."""
        return node_device()

    def close(self) -> None:
        """Do nothing: a process of Node.js lasts as long as a call of run."""


def node_device() -> dict[str, Any]:
    """This machine's Node.js as records name it. Raises UsageError where there is none."""
    facts = this_device()
    return {**facts, "cpu": f"node-{host_cpu()}", "engine": engine().words, "system": f"{_system()} wasm32"}


@cache
def _system() -> str:
    return str(this_device()["system"]).rpartition(" ")[0]


def link_kernel(target: Target, objects: Sequence[Path], symbol: str, path: Path) -> None:
    """Link bare functions into a module that exports symbol. Raises UsageError as the toolchain does."""
    with Scratch() as folder:
        workspace = Path(folder) / "workspace.o"
        workspace.write_bytes(workspace_object(target.tvm))
        target.toolchain.link([*objects, workspace], path, [f"--export={symbol}", f"--export={TOP}"])


@dataclass(frozen=True)
class _Linked:
    path: Path
    symbol: str
    constants: tuple[str, ...]
    sizes: tuple[int, ...]


class _Measurement:
    """One call of the runner. A kernel that ends the process, or does not come to its end, costs only itself."""

    def __init__(self, target: Target, folder: Path, one_s: float, problem: Problem, weight: FloatArray) -> None:
        self.target, self.folder, self.one_s, self.problem = target, folder, one_s, problem
        self.inputs = Inputs.random(problem)
        self.wanted: Reference = reference(problem, weight, self.inputs)
        self.x = self._file("x", self.inputs.x)
        self.extra = [self._file(f"extra{i}", array) for i, array in enumerate(self.inputs.extra)]
        self.y_dtype = np.dtype(problem.output.dtype)
        self.y_bytes = int(np.prod(problem.y_shape)) * self.y_dtype.itemsize

    def run(self, kernels: Sequence[Product], budget_ms: float) -> list[Timing | Failure]:
        linked = self._link_all(kernels)
        results: dict[int, Timing | Failure] = {i: one for i, one in enumerate(linked) if isinstance(one, Failure)}
        while waiting := {i: one for i, one in enumerate(linked) if i not in results and isinstance(one, _Linked)}:
            self.current = -1
            try:
                with Session(self.target.features) as session:
                    results.update(self._session(session, waiting, budget_ms))
            except (Ended, Untruthful) as error:
                kind = FailureKind.TIMEOUT if isinstance(error, Ended) and error.late else FailureKind.CRASH
                if self.current < 0:  # no kernel ran yet
                    results.update(dict.fromkeys(waiting, Failure(FailureKind.DEVICE, str(error))))
                else:
                    results[self.current] = Failure(kind, str(error))
        return [results[i] for i in range(len(kernels))]

    def _session(
        self, session: Session, waiting: Mapping[int, _Linked], budget_ms: float
    ) -> dict[int, Timing | Failure]:
        results: dict[int, Timing | Failure] = {}
        ready: dict[int, int] = {}
        for index, kernel in waiting.items():
            self.current = index
            try:
                ready[index] = self._checked(session, kernel)
                results[index] = UNTIMED
            except Refused as error:
                results[index] = Failure(_KINDS[error.kind], str(error))
            except _WrongError as error:
                results[index] = Failure(FailureKind.WRONG, str(error))
        if budget_ms > 0:
            results.update(self._times(session, ready, budget_ms))
        return results

    def _checked(self, session: Session, kernel: _Linked) -> int:
        """The number of a kernel in the session, once its result is the right one."""
        module = session.load(kernel.path, kernel.symbol, self._places(kernel), self.one_s)
        if status := session.call(module, self.one_s):
            raise Refused("call", f"it answers {status}")
        file = self.folder / "y"
        session.ask({"do": "read", "id": module, "index": len(self._places(kernel)) - 1, "file": str(file)}, self.one_s)
        room = np.fromfile(file, np.uint8)
        if not (room[:GUARD] == 0xFF).all() or not (room[-GUARD:] == 0xFF).all():
            raise _WrongError("writes outside of its result")
        wrong = self.wanted.difference(room[GUARD:-GUARD].view(self.y_dtype).reshape(self.problem.y_shape))
        if wrong:
            raise _WrongError(wrong)
        return module

    def _places(self, kernel: _Linked) -> list[Place]:
        """X and Y may be aligned no better than the problem says."""
        skew = 0 if self.problem.alignment >= 64 else 16
        return [
            Place(self.inputs.x.nbytes, self.x, skew),
            *(Place(size, file) for size, file in zip(kernel.sizes, kernel.constants, strict=True)),
            *(Place(array.nbytes, file) for array, file in zip(self.inputs.extra, self.extra, strict=True)),
            Place(self.y_bytes, None, skew, GUARD),
        ]

    def _times(self, session: Session, ready: Mapping[int, int], budget_ms: float) -> dict[int, Timing]:
        """The time of each kernel, by its index. They take turns, so that all see the same changes of the machine."""
        problem = self.problem
        size = other_bytes(problem.weight_bytes, problem.n * problem.batch, *host_caches())
        least = 1 if size > OTHER_BYTES else 3
        calls = dict.fromkeys(ready, 1)

        def slice_of(index: int) -> float:
            self.current = index
            request = {"do": "time", "id": ready[index], "calls": calls[index], "other": size // 64 * 64}
            return milliseconds(session.ask(request, self.one_s).get("median"), "Node.js")

        for index in ready:
            once = min(slice_of(index), slice_of(index), slice_of(index))
            calls[index] = calls_per_slice(once + size / 5e6, least)  # some 5 GB/s are read between two calls
        live, samples = list(ready), {index: list[float]() for index in ready}
        rounds, done = FIRST_ROUNDS, 0
        while done < rounds:
            for index in live if done % 2 == 0 else reversed(live):
                samples[index].append(slice_of(index))
            done += 1
            if done == FIRST_ROUNDS and live:
                middle = {index: median(samples[index]) for index in live}
                best = min(middle.values())
                live = [index for index in live if middle[index] <= _HOPELESS * best]
                rounds = rounds_within(budget_ms, max((middle[i] + size / 5e6) * calls[i] for i in live))
        return {index: Timing.of(samples[index]) for index in ready}

    def _link_all(self, kernels: Sequence[Product]) -> list[_Linked | Failure]:
        self.target.toolchain.compiler()  # without one, say so once and not for each candidate

        def one(item: tuple[int, Product]) -> _Linked | Failure:
            index, kernel = item
            path = self.folder / f"candidate{index}.wasm"
            try:
                link_kernel(self.target, kernel.objects, kernel.symbol, path)
            except UsageError as error:
                return Failure(FailureKind.LINK, str(error))
            constants = tuple(self._file(f"{index}-{i}", array) for i, array in enumerate(kernel.constants))
            return _Linked(path, kernel.symbol, constants, tuple(array.nbytes for array in kernel.constants))

        workspace_object(self.target.tvm)
        with ThreadPoolExecutor(usable_cpus()) as pool:
            return list(pool.map(one, enumerate(kernels)))

    def _file(self, name: str, array: NDArray[Any]) -> str:
        path = self.folder / name
        np.ascontiguousarray(array).tofile(path)
        return str(path)


class _WrongError(Exception):
    """Another result than NumPy's."""
