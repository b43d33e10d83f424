"""A compiled model in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tesa.runtime.callers import call_with_threads
from tesa.runtime.cpu import check_cpu
from tesa.runtime.inputs import Array
from tesa.runtime.library import load_library, set_threads
from tesa.runtime.machines import Machines
from tesa.runtime.manifest import Manifest
from tesa.runtime.model import Model
from tesa.runtime.pair import check_digest
from tesa.runtime.tensors import from_numpy, to_numpy


class LocalModel(Model):
    """A compiled model in this process, for any number of threads."""

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1) -> None:
        super().__init__(path, manifest, threads)
        self.library = load_library(path)
        check_cpu(self.library, path, manifest.plan.target)
        check_digest(self.library, path, manifest)
        self._machines = Machines(self.library, path)

    def execute(self, prepared: Sequence[Any]) -> Any:
        """Run on prepared inputs: the bare call, as an application makes it."""
        function = self._size_of(prepared).function
        if self.plan.threads == 1:
            return self._machines.run(function, prepared)
        return call_with_threads(self.threads, self._machines.run, function, prepared)

    def watched(self, note: Callable[..., None]) -> Callable[..., Any]:
        """A function of prepared inputs like execute, which calls note(function, symbol, before, result, *args) around
        every call that the model makes. Of several sizes it is the first one's."""
        if self.plan.threads > 1:
            set_threads(self.threads)
        return self._machines.watched(self.sizes[0].function, note)

    def _wrapped(self, array: Array) -> Any:
        return from_numpy(array)

    def _unwrapped(self, result: Any) -> Array:
        return to_numpy(result)
