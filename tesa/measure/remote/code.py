"""Makes the libraries that go to a device: a kernel with what checks and times it, and the known-good check alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tesa.measure.local import Built
from tesa.targets import toolchain

SOURCE = Path(__file__).with_name("device.c")
"""The functions in C that are linked into every library."""


@dataclass(frozen=True)
class Toolchain:
    """The C compiler that makes code for the devices, and a folder of its own. command: such as
    "aarch64-linux-gnu-gcc"; by default this machine's."""

    folder: Path
    command: str | None = None

    def probe(self) -> Path:
        """The library of the known-good check. Raises UsageError, once and not for each candidate, if none works."""
        path = self.folder / "tesa_probe.so"
        if not path.exists():
            self._join([self._tools()], path, [])
        return path

    def link(self, kernel: Built, path: Path) -> None:
        """The kernel's library at path. Raises UsageError if its objects do not fit together."""
        options = [f"-Wl,--defsym=tesa_candidate=__tvm_ffi_{kernel.symbol}"]
        self._join([*kernel.objects, self._tools()], path, options)

    def _join(self, objects: list[Path], path: Path, options: list[str]) -> None:
        toolchain.Toolchain(self.command or "").link(objects, path, options)

    def _tools(self) -> Path:
        path = self.folder / "device.o"
        if not path.exists():
            toolchain.Toolchain(self.command or "").compile(SOURCE, path, ["-std=gnu11"])
        return path
