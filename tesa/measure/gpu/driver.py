"""The driver of this machine's GPUs: opened by its name, asked which devices there are."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tesa.base.hostinfo import architecture
from tesa.base.told import line, word
from tesa.errors import UsageError
from tesa.targets.target import Target

VARIABLE = "TESA_GPU_DRIVER"
"""The variable of the environment that names a driver's library, as libraries that tesa makes heed it, too."""

_NAME_BYTES = 256
_MAJOR, _MINOR = 75, 76  # attributes of a CUDA device: of its compute capability


@dataclass(frozen=True)
class _Vendor:
    """A vendor's driver: its libraries, and its functions' names."""

    title: str
    libraries: tuple[str, ...]
    init: str
    count: str
    name: str


_VENDORS = {
    "cuda": _Vendor(
        "NVIDIA", ("libcuda.so.1", "libcuda.so"), "cuInit", "cuDeviceGetCount", "cuDeviceGetName"
    ),
    "rocm": _Vendor(
        "AMD", ("libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"),
        "hipInit", "hipGetDeviceCount", "hipDeviceGetName",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class GpuDevice:
    """A GPU as its driver tells of it. name: as reported; architecture: "sm_90", "" where the driver does not say."""

    name: str
    architecture: str = ""

    def facts(self) -> dict[str, Any]:
        """The device as records name it: "cpu" is the name as a word, of which a log's file has its name.

        Raises Untruthful for a name that nothing can be made of.

        >>> GpuDevice("NVIDIA H200", "sm_90").facts()["cpu"], GpuDevice("AMD Radeon(TM) RX/7").facts()["cpu"]
        ('NVIDIA H200', 'AMD Radeon-TM-RX-7')
        """
        plain = re.sub(r"[^A-Za-z0-9_.+ -]+", "-", self.name)
        plain = re.sub(r" *-[ -]*| +", lambda found: "-" if "-" in found[0] else " ", plain).strip("-. ")
        facts = {
            "cpu": word(plain[:80].strip(), "a GPU"),
            "model": line(self.name, 120),
            "system": f"{platform.system()} {architecture(platform.machine())}",
        }
        return {**facts, "architecture": word(self.architecture, "an architecture")} if self.architecture else facts


def missing(target: Target) -> str:
    """The lack that keeps this machine from running GPU code, as a sentence; "" where its driver knows a device."""
    vendor = _VENDORS[target.arch]
    found = _opened(vendor)
    advice = (
        f"; on a machine with a GPU of {vendor.title} install its driver, or name the driver's library in ${VARIABLE}"
    )
    if found is None:
        return (
            f"no driver of a GPU of {vendor.title} was found, so that nothing can be measured for {target.name}{advice}"
        )
    if not _count(found, vendor):
        return f"the driver of {vendor.title} knows no GPU, so that nothing can be measured for {target.name}{advice}"
    return ""


def device(target: Target, number: int = 0) -> GpuDevice:
    """A device of the driver for a target. Raises UsageError where there is none, or it does not tell its name."""
    vendor = _VENDORS[target.arch]
    library = _opened(vendor)
    if library is None or _count(library, vendor) <= number:
        raise UsageError(missing(target) or f"the driver of {vendor.title} knows no device {number}")
    text = ctypes.create_string_buffer(_NAME_BYTES)
    ask = getattr(library, vendor.name, None)
    if ask is None or ask(text, _NAME_BYTES - 1, number) or not text.value:
        raise UsageError(f"the driver of {vendor.title} does not tell the name of device {number}: update it")
    return GpuDevice(text.value.decode(errors="replace"), _capability(library, number) if target.arch == "cuda" else "")


def _opened(vendor: _Vendor) -> Any:
    for name in (os.environ.get(VARIABLE), *vendor.libraries):
        if name:
            with suppress(OSError):
                library = ctypes.CDLL(name)
                if hasattr(library, vendor.init):
                    return library
    return None


def _count(library: Any, vendor: _Vendor) -> int:
    count = ctypes.c_int()
    if getattr(library, vendor.init)(0) or getattr(library, vendor.count)(ctypes.byref(count)):
        return 0
    return count.value


def _capability(library: Any, number: int) -> str:
    values = [ctypes.c_int(), ctypes.c_int()]
    for value, attribute in zip(values, (_MAJOR, _MINOR), strict=True):
        if library.cuDeviceGetAttribute(ctypes.byref(value), attribute, number):
            return ""
    return f"sm_{values[0].value}{values[1].value}"
