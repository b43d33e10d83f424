"""This machine as records name it."""

import platform
from functools import lru_cache

from tesa.base.hostinfo import EMULATED, architecture, emulated_here, read_cpu
from tesa.targets.target import host_cpu


@lru_cache(maxsize=1)
def this_device() -> dict[str, str | int]:
    """This machine: LLVM's name of its CPU, its name in words, logical CPUs, last cache in KiB (0 if unknown), system.

    One that another machine plays is "emulated" with its architecture, and has "emulated": True.

    Names of features stand in the target; of the machine itself (host name, user, paths) nothing is told.

    >>> sorted(this_device())
    ['cache_kib', 'cpu', 'cpus', 'model', 'system']
    """
    cpu = read_cpu()
    last = max(((cache.level, cache.bytes) for cache in cpu.caches), default=(0, 0))
    found: dict[str, str | int] = {
        "cpu": host_cpu(),
        "model": cpu.model,
        "cpus": cpu.usable,
        "cache_kib": last[1] // 1024,
        "system": f"{platform.system()} {cpu.arch}",
    }
    if sign := emulated_here():
        found |= {"cpu": EMULATED + architecture(cpu.arch), "model": sign, "emulated": True}
    return found
