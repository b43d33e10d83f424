"""The check of a device within a session: whether it computes right, what it is, and how far away."""

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from tesa.base.hostinfo import EMULATED, architecture, cpuinfo, emulator
from tesa.base.told import line, parsed, texts, whole, word
from tesa.measure.remote.messages import About

FOREIGN = "give the target of the device"
"""In what is wrong with a device that no code that is made can run on: to wait for it is in vain."""

_KNOWN = 48  # rows and columns of the known-good check
_ABOUT = 1 << 14
_MOST_TOLD = 1 << 14  # characters of what a server says of itself
_MOST_CORES = 1 << 14
_LINK_BYTES = 1 << 20


def examine(session: Any, probes: Mapping[str, str]) -> tuple[str, About | None]:
    """(what is wrong with the device, nothing if it is sound; what it says of itself, if it could be asked).

    probes: libraries of the known-good check by the architecture that they are made for, "" if unknown. Of several the
    one is taken that the device can load.
    """
    import tvm

    told = _told(session)
    machine = architecture(told["machine"])
    fits = {made: path for made, path in probes.items() if architecture(made) == machine or not (made and machine)}
    if not fits:
        return (f"it is {machine}, and code is made for {_listed(probes)}: {FOREIGN}, as in --target {machine}"), None
    library, why = _loaded(session, fits)
    if library is None:
        return f"it cannot load code for {_listed(fits)} ({why}): {FOREIGN} with --target", None
    device = session.cpu(0)
    room = tvm.runtime.empty((_ABOUT,), "uint8", device=device)
    count = int(library["tesa_about"](room))
    about = _about(told, room.numpy()[:count].tobytes().decode("utf-8", "replace"))
    rng = np.random.default_rng()  # other numbers each time: an answer that was kept from before is a wrong one
    a, b = rng.integers(-8, 9, (2, _KNOWN, _KNOWN)).astype(np.float32)
    y = tvm.runtime.tensor(np.full_like(a, np.nan), device=device)
    library["tesa_known"](tvm.runtime.tensor(a, device=device), tvm.runtime.tensor(b, device=device), y)
    off = int((y.numpy() != a @ b).sum())
    return (f"wrong numbers: {off} of {a.size} in the known-good check" if off else ""), about


def _listed(probes: Iterable[str]) -> str:
    return ", ".join(architecture(made) for made in probes if made) or "this machine"


def _loaded(session: Any, probes: Mapping[str, str]) -> tuple[Any, str]:
    """The first of the libraries that the device can load, else None and what it says of the last one."""
    why = ""
    for number, path in enumerate(probes.values()):
        name = f"tesa_probe{number}.so"
        session.upload(path, name)
        try:
            return session.load_module(name), ""
        except Exception as error:
            session.get_function("runtime.NumThreads")  # raises where it was the connection that broke
            said = [row for row in str(error)[:_MOST_TOLD].splitlines() if ".so" in row]
            why = line(said[-1].strip().rpartition(": ")[2]) if said else type(error).__name__
    return None, why


def measure_link(session: Any, about: About) -> About:
    """Add the time of one empty call, and of moving a megabyte there and back."""
    import tvm

    call = session.get_function("runtime.NumThreads")
    laps = [_seconds(call) for _ in range(7)]
    there = tvm.runtime.empty((_LINK_BYTES,), "uint8", device=session.cpu(0))
    array = np.zeros(_LINK_BYTES, np.uint8)
    taken = _seconds(lambda: there.copyfrom(array)) + _seconds(there.numpy)
    return replace(about, latency_ms=median(laps) * 1e3, link_mb_s=2 * _LINK_BYTES / 1e6 / max(taken, 1e-9))


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _about(told: dict[str, str], text: str) -> About:
    """The device by what its server and tesa_about of device.c tell."""
    head, _, rest = text.partition("\n\n")
    facts = texts(dict(row.split("=", 1) for row in head.splitlines()), "the device's description")
    cpu = texts(cpuinfo(rest), "the device's CPU", most=256)
    machine = word(facts["machine"], "an architecture")
    emulated = emulator(machine, cpu, facts["kernel"], facts["bus"])
    model = cpu.get("model name") or " ".join(cpu[name] for name in ("CPU implementer", "CPU part") if name in cpu)
    named = told["llvm_cpu"] and word(told["llvm_cpu"], "a CPU")
    versions = {"tvm_ffi": facts["tvm_ffi"], **told}
    for name in ("llvm_cpu", "machine"):
        del versions[name]
    name = named if named not in ("", "generic") else _as_word(model or machine)
    if emulated:
        name, model = EMULATED + architecture(machine), emulated
    cores = whole(int(facts["cores"][:9]), "the device's number of cores", 1, _MOST_CORES)
    return About(
        word(name, "a CPU"), line(model, 120), machine, cores, facts["host"], versions, emulated=bool(emulated)
    )


def _as_word(model: str) -> str:
    """A CPU's name as Linux has it, as a part of a file's name.

    >>> _as_word("Cortex-A76 (rev 4)")
    'Cortex-A76-rev-4'
    """
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", model[:64]).strip("-.") or "unknown"


def _told(session: Any) -> dict[str, str]:
    """Facts that tesa's own server tells, or TVM for another one. "llvm_cpu" and "machine" may be ""."""
    unknown = {"llvm_cpu": "", "machine": ""}
    try:
        ask = session.get_function("tesa.about")
    except Exception:  # another server
        unknown["server"] = "tvm"
    else:
        return texts({**unknown, **parsed(str(ask()), _MOST_TOLD)}, "the device's description")
    with suppress(Exception):  # a device that has TVM's runtime alone
        unknown["llvm_cpu"] = line(str(session.get_function("target.llvm_get_system_cpu")()))
    return unknown
