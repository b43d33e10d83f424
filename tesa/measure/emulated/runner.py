"""Compares kernels with NumPy in an emulator: each is a program of its own, linked here. Nothing is timed."""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.hostinfo import EMULATED, usable_cpus
from tesa.base.scratch import Scratch
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.emulated.emulator import Emulator, Ended, emulator_for, lacking_emulator
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.reference import Inputs, reference
from tesa.measure.timing import UNTIMED, Timing
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.architecture import Target

GUARD = 256
"""Bytes on each side of a result that a kernel must leave alone."""

_SOURCE = Path(__file__).with_name("kernel.c")
_CODES = {"i": 0, "u": 1, "f": 2, "V": 4}
"""DLPack's codes of types; the last is bfloat16's."""


class EmulatedRunner:
    """A Runner (tesa.measure.interfaces) that only compares: under qemu-user, for code that no CPU here can run.

    limit_s: seconds for one kernel. Raises UsageError, naming what to install, where there is no emulator or compiler.
    """

    def __init__(self, target: Target, *, limit_s: float = 300.0) -> None:
        lacks = lacking_emulator(target)
        if lacks:
            raise UsageError(f"code for {target.name} cannot be checked here: {lacks}")
        self._target, self._limit_s = target, limit_s
        self._emulator: Emulator = emulator_for(target)
        self._home = Scratch()

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """UNTIMED for each kernel that is right, or why it is not, in their order.

        Raises UsageError where times are asked for: an emulator's are no CPU's.
        """
        if budget_ms > 0:
            raise UsageError(f"kernels for {self._target.name} can be checked in an emulator, and not be timed there")
        if not kernels:
            return []
        inputs = Inputs.random(problem)
        wanted = reference(problem, weight, inputs)
        main = self._main

        def one(kernel: Product) -> Timing | Failure:
            with Scratch() as name:
                try:
                    y = self._result(kernel, problem, inputs, main, Path(name))
                except UsageError as error:
                    return Failure(FailureKind.LINK, str(error))
                except Ended as error:
                    return self._ended(error)
            wrong = "writes outside of its result" if y is None else wanted.difference(y)
            return Failure(FailureKind.WRONG, wrong) if wrong else UNTIMED

        with ThreadPoolExecutor(usable_cpus()) as pool:
            return list(pool.map(one, kernels))

    def device(self) -> dict[str, Any]:
        """The emulator in the place of a machine, as records name it."""
        words = f"{self._emulator.command} -cpu {self._emulator.cpu}"
        machine = self._target.toolchain.machines[0] if self._target.toolchain.machines else self._target.arch
        return {"cpu": EMULATED + machine, "model": words, "system": f"Linux {machine}", "emulated": True}

    def close(self) -> None:
        """Remove what was linked into the programs. May be called twice."""
        self._home.cleanup()

    def _ended(self, error: Ended) -> Failure:
        """The failure of a kernel that did not come to its end. An instruction that only the emulator lacks, which then
        plays another CPU than the target's, says nothing of it."""
        unknown = "SIGILL" in str(error) and self._emulator.cpu != self._target.cpu
        kind = FailureKind.TIMEOUT if error.late else FailureKind.DEVICE if unknown else FailureKind.CRASH
        return Failure(kind, str(error))

    @cached_property
    def _main(self) -> Path:
        path = Path(self._home.name) / "kernel.o"
        self._target.toolchain.compile(_SOURCE, path, ["-std=gnu11"])
        return path

    def _result(
        self, kernel: Product, problem: Problem, inputs: Inputs, main: Path, folder: Path
    ) -> NDArray[Any] | None:
        """The result of a kernel in problem.y_shape, None where it wrote outside of it."""
        tools = self._target.toolchain
        more, options = tools.renamed(f"__tvm_ffi_{kernel.symbol}", "tesa_candidate", folder)
        tools.program([main, *kernel.objects, *more], folder / "program", options)
        arrays = (inputs.x, *kernel.constants, *inputs.extra)
        skew = 0 if problem.alignment >= 64 else 16
        arguments(folder / "arguments", arrays, problem.y_shape, np.dtype(problem.output.dtype), skew)
        self._emulator.run(folder / "program", [str(folder / "arguments"), str(folder / "y")], self._limit_s)
        room = np.fromfile(folder / "y", np.uint8)
        if not (room[:GUARD] == 0xFF).all() or not (room[-GUARD:] == 0xFF).all():
            return None
        return room[GUARD:-GUARD].view(problem.output.dtype).reshape(problem.y_shape)


def arguments(
    path: Path, arrays: Sequence[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any], skew: int
) -> None:
    """Write a kernel's arguments as kernel.c reads them. shape, dtype: of the result; skew: of X and of the result."""
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(arrays) + 1))
        for index, array in enumerate(arrays):
            file.write(_facts(array.dtype, array.shape, skew if index == 0 else 0, 0))
        file.write(_facts(dtype, shape, skew, GUARD))
        for array in arrays:
            file.write(np.ascontiguousarray(array).tobytes())


def _facts(dtype: np.dtype[Any], shape: tuple[int, ...], skew: int, guard: int) -> bytes:
    head = struct.pack("<5i", _CODES[dtype.kind], dtype.itemsize * 8, len(shape), skew, guard)
    return head + struct.pack(f"<{len(shape)}q", *shape)
