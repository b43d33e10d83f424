"""The interface of an engine: what runs a compiled model that this process cannot load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tesa.runtime.inputs import Array
from tesa.runtime.manifest import Manifest


@dataclass(frozen=True)
class Compiled:
    """A compiled model as an engine gets it: its file and its description, and the threads that it may use.

    rpc, key: address of a tracker, and of which of its devices, where a user named them; emulated: an emulator is to
    run it.
    """

    path: Path
    manifest: Manifest
    threads: int = 1
    rpc: str | None = None
    key: str | None = None
    emulated: bool = False


class Engine(Protocol):
    """Runs the functions of one compiled model: on a device, in Node.js, under an emulator."""

    def run(self, function: str, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of one call, in their order. inputs: as the function takes them, checked."""
        ...

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Milliseconds of one call, a sample for each round of a few milliseconds, by the clock that is there.

        Raises UsageError where times would mean nothing, as under an emulator.
        """
        ...

    def device(self) -> dict[str, Any]:
        """The machine, as records name it: at least {"cpu": name}; "emulated": True where times are no CPU's."""
        ...

    def close(self) -> None:
        """Give the device back and end processes. May be called twice."""
        ...
