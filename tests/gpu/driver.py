"""A driver of pretended GPUs for tests: libraries that tesa makes for GPUs load it by its name and run as they are.

What they launch is run on NumPy, from the text that the loaded image was assembled from. See mock_driver.c.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gpu import simulate

_LOAD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
_LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint * 3), ctypes.POINTER(ctypes.c_uint * 3),
    ctypes.c_uint, ctypes.c_void_p, ctypes.c_int,
)  # fmt: skip
_COUNT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p)
_MEMORY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
NO_IMAGE, ILLEGAL = 209, 700


@dataclass(repr=False)
class Driver:
    """A pretended driver. texts: what images were assembled from. loaded: kinds of the images that were loaded.

    faults: what kernels did wrong; the driver then answers that memory was reached illegally.
    """

    path: Path
    texts: dict[bytes, str] = field(default_factory=dict)
    loaded: list[tuple[str, int]] = field(default_factory=list)
    launched: list[tuple[str, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    memory: simulate.Memory = field(default_factory=simulate.Memory)
    _modules: list[str] = field(default_factory=list)

    def start(self, devices: int = 1, sm: int = 80, room: int = 0) -> Driver:
        """Forget what was before. sm: of all devices; room: bytes of memory of each, 0 for any number."""
        self.library = ctypes.CDLL(str(self.path))
        self.loaded.clear()
        self._calls = (_LOAD(self._load), _LAUNCH(self._launch), _COUNT(self._count), _MEMORY(self._lend))
        self.library.mock_set(*self._calls, devices, sm, ctypes.c_size_t(room))
        return self

    def fail(self, function: str, code: int) -> None:
        """Let a function of the driver answer with a code."""
        self.library.mock_break(function.encode(), code)

    def call_itself(self, name: str) -> None:
        """Let every device report this name."""
        self.library.mock_name(name.encode())

    @property
    def graphs(self) -> int:
        """How often a graph was launched."""
        return int(self.library.mock_graphs())

    def know(self, images: Iterable[Any], text: str) -> None:
        """The images were assembled from the text."""
        for image in images:
            self.texts[bytes(image.content)] = text

    def _load(self, image: int, device: int, found: Any) -> int:
        start = ctypes.string_at(image, 4)
        if start == b"\x7fELF":
            content = next((c for c in self.texts if ctypes.string_at(image, len(c)) == c), None)
            if content is None:
                return NO_IMAGE
            text, kind = self.texts[content], "binary"
        else:
            text, kind = ctypes.string_at(image).decode(), "ptx"
        found[0] = len(self._modules)
        self._modules.append(text)
        self.loaded.append((kind, device))
        return 0

    def _count(self, module: int, name: bytes) -> int:
        if name.decode() not in simulate.entries(self._modules[module]):
            return -1
        return simulate.parameters(self._modules[module], name.decode())

    def _launch(self, module: int, name: bytes, grid: Any, block: Any, shared: int, given: int, device: int) -> int:
        sizes = (tuple(grid.contents), tuple(block.contents))
        self.launched.append((name.decode(), device))
        try:
            simulate.launch(self._modules[module], name.decode(), *sizes, shared, given, self.memory)
        except Exception as fault:  # whatever goes wrong must not be lost on the way through C
            self.faults.append(f"{type(fault).__name__}: {fault}")
            return ILLEGAL
        return 0

    def _lend(self, address: int, size: int, _device: int) -> None:
        if size:
            self.memory.lend(address, size)
        else:
            self.memory.take_back(address)


def build(folder: Path, hip: bool = False) -> Path:
    """Compile the driver into a folder."""
    path = folder / ("libmockhip.so" if hip else "libmockcuda.so")
    source = Path(__file__).with_name("mock_driver.c")
    options = ["-DHIP"] if hip else []
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-w", *options, str(source), "-o", str(path)], check=True)
    return path


def started(folder: Path, monkeypatch: Any) -> Driver:
    """A driver of NVIDIA's that is found, and gets text, which it runs."""
    from tesa.build.gpu import ptx
    from tests.gpu.extra import require_compiler

    require_compiler()
    monkeypatch.setattr(ptx, "assembler", lambda: "")
    made = Driver(build(folder))
    monkeypatch.setenv("TESA_GPU_DRIVER", str(made.path))
    return made.start()
