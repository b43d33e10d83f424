"""The virtual machines of a loaded model: a call takes a free one, so that calls of several threads do not meet."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesa.runtime.library import open_machine


class Machines:
    """Virtual machines of one library, opened as they are needed: as many as calls have ever run at once.

    A machine holds the registers of one call. The code and the constants are the library's, so that a further machine
    costs a few KiB. A call releases Python's lock, so that calls of several threads run at the same time.
    """

    def __init__(self, library: Any, path: Path) -> None:
        self._library, self._path = library, path
        self._free: deque[_Functions] = deque()  # its methods are safe among threads
        self._free.append(self._opened())

    def run(self, function: str, arguments: Any) -> Any:
        """Call a function of the model. A machine in which a call has failed is not used again."""
        try:
            machine = self._free.pop()
        except IndexError:
            machine = self._opened()
        result = machine[function](*arguments)
        self._free.append(machine)
        return result

    def watched(self, function: str, note: Callable[..., None]) -> Callable[..., Any]:
        """A function of the model, of a machine apart, that calls note(function, symbol, before, result, *args)."""
        machine = self._opened()
        machine["set_instrument"](note)
        return lambda *arguments: machine[function](*arguments)

    def _opened(self) -> "_Functions":
        return _Functions(open_machine(self._library, self._path))


class _Functions(dict[str, Callable[..., Any]]):
    """The functions of a machine by name, each looked up once."""

    def __init__(self, machine: Any) -> None:
        super().__init__()
        self._machine = machine

    def __missing__(self, name: str) -> Callable[..., Any]:
        self[name] = self._machine.get_function(name)
        return self[name]
