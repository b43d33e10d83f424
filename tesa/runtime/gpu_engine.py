"""The engine that runs a compiled model on a GPU: its inputs are copied there, and its outputs back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.errors import ModelError
from tesa.runtime.gpu import GpuLibrary
from tesa.runtime.inputs import Array
from tesa.runtime.interfaces import Compiled

FORMAT = "gpu"
"""The format that the description of such a model names."""

_CALLS = 20


class GpuEngine:
    """An Engine (tesa.runtime.interfaces) on device 0. Errors are those of GpuLibrary."""

    def __init__(self, compiled: Compiled) -> None:
        library = compiled.manifest.library
        self._target = compiled.manifest.plan.target
        functions = [size.function for size in compiled.manifest.sizes]
        self._library = GpuLibrary(compiled.path, str(library["name"]), functions[0])
        if self._library.facts.get("digest") != compiled.manifest.digest:
            raise ModelError(
                f"{compiled.path}: its description {compiled.path.with_suffix('.json').name} is of another model or "
                "compile; copy both files of one compile"
            )
        self._sizes = {function: self._library.at(number) for number, function in enumerate(functions)}

    def run(self, function: str, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of one call of a size by its function, in their order."""
        found = self._sizes[function](*(np.asarray(one) for one in inputs))
        return list(found) if isinstance(found, tuple) else [found]

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Milliseconds of one call, a sample for each round, by the events of the driver."""
        arrays = [np.asarray(one) for one in inputs]
        return [self._sizes[function].time_ms(arrays, _CALLS) for _ in range(rounds)]

    def device(self) -> dict[str, Any]:
        """The device, as records name it."""
        return {"cpu": self._target, "device": self._library.device}

    def close(self) -> None:
        """Nothing is held that lasts."""
