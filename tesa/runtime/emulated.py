"""The engine that runs a model without a runtime in an emulator of another architecture's programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.scratch import Scratch
from tesa.errors import ModelError, UsageError
from tesa.measure import emulated
from tesa.measure.emulated.emulator import Ended, emulator_for
from tesa.measure.emulated.runner import EmulatedRunner
from tesa.runtime.inputs import Array
from tesa.runtime.interfaces import Compiled
from tesa.runtime.pair import check_same
from tesa.runtime.tensors import numpy_dtype
from tesa.targets.target import parse_target

_SOURCE = Path(emulated.__file__).with_name("model.c")
_LIMIT_S = 1800.0


class EmulatedEngine:
    """An Engine (tesa.runtime.interfaces) of a program that is linked here and run anew for each call.

    Raises UsageError where there is no emulator or no compiler for the target, ModelError for a model that needs TVM's
    runtime, of which there is none for other machines here, and for one of another compile than its description.
    """

    def __init__(self, compiled: Compiled) -> None:
        library, self._path, self._sizes = compiled.manifest.library, compiled.path, compiled.manifest.sizes
        if library.get("format") != "o":
            raise ModelError(
                f"{compiled.path}: an emulator here runs models of format o, which need no library: compile it with "
                "--format o, or run this one on a device (--rpc HOST:PORT --key KEY)"
            )
        target = parse_target(compiled.manifest.plan.target)
        runner = EmulatedRunner(target)  # says what is lacking
        self._device, self._emulator = runner.device(), emulator_for(target)
        runner.close()
        self._home = Scratch()
        folder, name = Path(self._home.name), str(library["name"])
        self._program = folder / "program"
        header = compiled.path.with_suffix(".h")
        options = ["-std=gnu11", f"-DMODEL={name}", f'-DHEADER="{header.name}"', f"-I{header.resolve().parent}"]
        target.toolchain.compile(_SOURCE, folder / "main.o", options)
        target.toolchain.program([folder / "main.o", compiled.path], self._program)
        check_same(self._said([]).strip(), compiled.path, compiled.manifest)

    def run(self, function: str, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of one call, in their order."""
        index = next(i for i, size in enumerate(self._sizes) if size.function == function)
        with Scratch() as name:
            given, made = Path(name) / "inputs", Path(name) / "outputs"
            given.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in inputs))
            self._said([str(given), str(made), str(index)])
            data, start, found = made.read_bytes(), 0, []
        for info in self._sizes[index].outputs:
            dtype, count = numpy_dtype(info.dtype), int(np.prod(info.shape))
            found.append(np.frombuffer(data, dtype, count, start).reshape(info.shape).copy())
            start += found[-1].nbytes
        return found

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Raise UsageError: an emulator's times are no CPU's."""
        raise UsageError(
            f"an emulator ({self._emulator.command}) tells no times of {self._sizes[0].plan.target}: time the model on "
            "a device, with --rpc HOST:PORT --key KEY"
        )

    def _said(self, words: Sequence[str]) -> str:
        """The program's standard output. ModelError where it comes to no good end."""
        try:
            return self._emulator.run(self._program, words, _LIMIT_S)
        except Ended as error:
            raise ModelError(f"{self._path}: does not run in {self._emulator.command}: {error}") from error

    def device(self) -> dict[str, Any]:
        """The emulator in the place of a machine, as records name it."""
        return self._device

    def close(self) -> None:
        """Remove the program. May be called twice."""
        self._home.cleanup()
