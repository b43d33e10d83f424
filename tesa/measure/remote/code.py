"""Libraries that go to a device: a kernel with the code that checks and times it, and the known-good check alone."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tesa.build.product import Product
from tesa.targets.toolchain import NATIVE, Toolchain

SOURCE = Path(__file__).with_name("device.c")
"""The functions in C that are linked into every library."""


@dataclass(frozen=True)
class DeviceLinker:
    """Makes the libraries for devices in a folder of its own, with the tools of their target."""

    folder: Path
    tools: Toolchain = NATIVE

    @cached_property
    def machine(self) -> str:
        """The architecture that the tools make code for, by the compiler's name of it; "" if it does not tell."""
        return self.tools.machine()

    def probe(self) -> Path:
        """The library of the known-good check. Raises UsageError, once and not for each candidate, if none works."""
        path = self.folder / "tesa_probe.so"
        if not path.exists():
            self.tools.link([self._checks()], path)
        return path

    def link(self, kernel: Product, path: Path) -> None:
        """The kernel's library at path. Raises UsageError if its objects do not fit together."""
        more, options = self.tools.renamed(f"__tvm_ffi_{kernel.symbol}", "tesa_candidate", path.parent)
        self.tools.link([*kernel.objects, *more, self._checks()], path, options)

    def _checks(self) -> Path:
        path = self.folder / "device.o"
        if not path.exists():
            self.tools.compile(SOURCE, path, ["-std=gnu11"])
        return path
