"""Is a device sound, what is it, and how far away: asked of it within a session."""

from __future__ import annotations

import json
import re
import time
from statistics import median
from typing import Any

import numpy as np

from tesa.measure.remote.orders import About

_KNOWN = 48  # rows and columns of the known-good check
_ABOUT = 1 << 14
_LINK_BYTES = 1 << 20


def examine(session: Any, probe: str) -> tuple[str, About]:
    """(what is wrong with the device, nothing if it is sound; what it says of itself)."""
    import tvm

    session.upload(probe, "tesa_probe.so")
    library, device = session.load_module("tesa_probe.so"), session.cpu(0)
    room = tvm.runtime.empty((_ABOUT,), "uint8", device=device)
    count = int(library["tesa_about"](room))
    about = _about(session, room.numpy()[:count].tobytes().decode("utf-8", "replace"))
    rng = np.random.default_rng()  # other numbers each time: an answer that was kept from before is a wrong one
    a, b = rng.integers(-8, 9, (2, _KNOWN, _KNOWN)).astype(np.float32)
    y = tvm.runtime.tensor(np.full_like(a, np.nan), device=device)
    library["tesa_known"](tvm.runtime.tensor(a, device=device), tvm.runtime.tensor(b, device=device), y)
    off = int((y.numpy() != a @ b).sum())
    return (f"wrong numbers: {off} of {a.size} in the known-good check" if off else ""), about


def measure_link(session: Any, about: About) -> About:
    """With the time of one empty call, and of moving a megabyte there and back."""
    import tvm

    call = session.get_function("runtime.NumThreads")
    laps = [_seconds(call) for _ in range(7)]
    there = tvm.runtime.empty((_LINK_BYTES,), "uint8", device=session.cpu(0))
    array = np.zeros(_LINK_BYTES, np.uint8)
    taken = _seconds(lambda: there.copyfrom(array)) + _seconds(there.numpy)
    values = dict(vars(about))
    values.update(latency_ms=median(laps) * 1e3, link_mb_s=2 * _LINK_BYTES / 1e6 / max(taken, 1e-9))
    return About(**values)


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _about(session: Any, text: str) -> About:
    head, _, cpuinfo = text.partition("\n\n")
    facts = dict(line.split("=", 1) for line in head.splitlines())
    first = [line.partition(":") for line in cpuinfo.split("\n\n")[0].splitlines()]
    cpu = {name.strip(): value.strip() for name, _, value in first}
    model = cpu.get("model name") or " ".join(cpu[name] for name in ("CPU implementer", "CPU part") if name in cpu)
    versions = {"tvm_ffi": facts["tvm_ffi"]}
    told = _told(session)
    llvm_cpu = told.pop("llvm_cpu", "")
    versions.update(told)
    name = llvm_cpu if llvm_cpu not in ("", "generic") else re.sub(r"[^\w.-]+", "-", model or facts["machine"])
    return About(name, model, facts["machine"], int(facts["cores"]), facts["host"], versions)


def _told(session: Any) -> dict[str, str]:
    """What tesa's own server tells beyond the rest; of another server, what TVM tells."""
    try:
        told: dict[str, str] = json.loads(str(session.get_function("tesa.about")()))
    except Exception:
        told = {"server": "tvm"}
        try:
            told["llvm_cpu"] = str(session.get_function("target.llvm_get_system_cpu")())
        except Exception:  # a device that has TVM's runtime alone
            told["llvm_cpu"] = ""
    return told
