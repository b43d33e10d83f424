"""The engine that runs a compiled model on a GPU: its inputs are copied there, and its outputs back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
        self._library = GpuLibrary(compiled.path, str(library["name"]), compiled.manifest.sizes[0].function)

    def run(self, function: str, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of one call, in their order."""
        del function  # there is one
        found = self._library(*(np.asarray(one) for one in inputs))
        return list(found) if isinstance(found, tuple) else [found]

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Milliseconds of one call, a sample for each round, by the events of the driver."""
        del function
        arrays = [np.asarray(one) for one in inputs]
        return [self._library.time_ms(arrays, _CALLS) for _ in range(rounds)]

    def device(self) -> dict[str, Any]:
        """The device, as records name it."""
        return {"cpu": self._target, "device": self._library.device}

    def close(self) -> None:
        """Nothing is held that lasts."""
