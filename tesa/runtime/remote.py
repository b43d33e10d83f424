"""A compiled model that runs elsewhere than in this process: on a device of a tracker, in Node.js."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from tesa.runtime.inputs import Array
from tesa.runtime.interfaces import Compiled, Engine
from tesa.runtime.model import Model


class RemoteModel(Model):
    """A compiled model that an engine runs. Calls are checked here; inputs and outputs travel.

    Give the device back with close(), or use it in a with statement.
    """

    def __init__(self, compiled: Compiled, engine: Engine) -> None:
        super().__init__(compiled.path, compiled.manifest, compiled.threads)
        self.engine = engine

    def __enter__(self) -> "RemoteModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def device(self) -> dict[str, Any]:
        """The device that runs it, as records name it."""
        return self.engine.device()

    def execute(self, prepared: Sequence[Any]) -> list[Array]:
        """Run on prepared inputs, there."""
        return self.engine.run(self._size_of(prepared).function, prepared)

    def time(self, prepared: Sequence[Any], rounds: int) -> list[float]:
        """Milliseconds of one call on prepared inputs, by the clock that is there; a sample for each round."""
        return self.engine.time(self._size_of(prepared).function, prepared, rounds)

    def close(self) -> None:
        """Give the device back. May be called twice."""
        self.engine.close()

    def _wrapped(self, array: Array) -> Array:
        return array

    def _unwrapped(self, result: Array) -> Array:
        return result
