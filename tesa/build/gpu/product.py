"""Built kernels of a GPU: images of code for its modules, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tesa.schedules.gpus import Launch, Work

CUBIN, PTX, HSACO = "cubin", "ptx", "hsaco"


@dataclass(frozen=True)
class Image:
    """Code of one module as a driver takes it.

    kind: CUBIN for devices of one major version, PTX text, which a driver compiles at the first load, or HSACO of AMD.
    architecture: that it was made for. entries: what its kernels take of a device, where it can be told.
    """

    kind: str
    architecture: str
    content: bytes = field(repr=False)
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Entry:
    """The resources of one kernel: registers of a thread, bytes of code, of shared memory, and of memory for spills."""

    name: str
    registers: int
    code: int
    shared: int = 0
    spills: int = 0


@dataclass(frozen=True)
class GpuProduct:
    """A built kernel.

    modules: the images of each, the best one first. launches, constants, scratch, work, notes: as of GpuCode; the grid
    and block of every launch are known. said: what was made, in words.
    """

    symbol: str
    modules: tuple[tuple[Image, ...], ...]
    launches: tuple[Launch, ...]
    constants: tuple[NDArray[Any], ...] = ()
    scratch: tuple[int, ...] = ()
    work: tuple[Work, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The images in words.

        >>> GpuProduct("k", ((Image("cubin", "sm_80", b""), Image("ptx", "sm_80", b"")),), ()).said
        'cubin for sm_80, PTX for newer devices'
        """
        kinds = dict.fromkeys((image.kind, image.architecture) for images in self.modules for image in images)
        only = all(image.kind == PTX for images in self.modules for image in images)
        words = {
            CUBIN: "cubin for {}", HSACO: "code object for {}",
            PTX: "PTX for {} and newer, compiled at first load" if only else "PTX for newer devices",
        }  # fmt: skip
        return ", ".join(words[kind].format(architecture) for kind, architecture in kinds)

    @property
    def code_bytes(self) -> int:
        """Bytes of the instructions that the first images have."""
        return sum(entry.code for images in self.modules for entry in images[0].entries) or sum(
            len(images[0].content) for images in self.modules
        )
