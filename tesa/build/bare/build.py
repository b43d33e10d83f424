"""From a scheduled module and the kernels of its layers to the objects of a network that needs no runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tesa.base.scratch import Scratch
from tesa.build.bare.api import api
from tesa.build.bare.arena import ALIGNMENT, Plan, plans
from tesa.build.bare.assembler import allowed
from tesa.build.bare.cpu import probe
from tesa.build.bare.ir import constants, network, padded, region
from tesa.build.bare.network import Calls, calls_of
from tesa.build.bare.ports import Api
from tesa.build.bare.source import source
from tesa.build.bare.units import Unit, kernel_units, operator_unit
from tesa.build.interface import NO_PROBE, needed
from tesa.build.ir import ir_object
from tesa.errors import UnsupportedError
from tesa.schedules.cpu.lifting import Region
from tesa.schedules.types import Code
from tesa.targets.architecture import find
from tesa.targets.cpuid import fits
from tesa.targets.target import Target

_FITS = "\nstatic int fits(void) { return !@NAME@_missing(NULL, 0); }\n"


@dataclass(frozen=True)
class Kernel:
    """A chosen kernel: its symbol, the code that it was emitted as, and the object files of that, see Code.units."""

    symbol: str
    code: Code
    objects: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Parts:
    """A network: what its functions call, where the buffers lie, its kernels and operators, and what C sees of it."""

    calls: Calls
    plans: Mapping[str, Plan]
    units: tuple[Unit, ...]
    api: Api

    @property
    def regions(self) -> list[Region]:
        """The parallel loops of all units."""
        return [one for unit in self.units for lifted in unit.functions.values() for one in lifted.regions]


def network_calls(mod: Any, names: Sequence[str], target: Target) -> Calls:
    """The calls of a scheduled module's functions. UnsupportedError for what only TVM's virtual machine does."""
    return calls_of(mod, names, tvm.target.Target(target.tvm))


def build(
    calls: Calls, kernels: Sequence[Kernel], model: Api, target: Target, threads: int, text: bool = False
) -> Parts:
    """The parts of a network. model: its arena is not known yet. text: units are assembly, else object files.

    Raises UnsupportedError for a kernel that is not there, or an operator that calls TVM's runtime.
    """
    known = {kernel.symbol: kernel for kernel in kernels}
    units: list[Unit] = []
    for symbol in sorted(calls.kernels):
        if symbol not in known:
            raise UnsupportedError(
                f"the model calls {symbol}, which is part of TVM's runtime; compile with --format vm"
            )
        units += kernel_units(symbol, known[symbol].code, target, threads, known[symbol].objects, text)
    names = {name: f"{model.name}_op_{name}" for name in calls.operators}
    if names:
        units.append(operator_unit({names[name]: f for name, f in calls.operators.items()}, target, threads, text))
    calls = _renamed(calls, names)
    lifted = {name: one for unit in units for name, one in unit.functions.items()}
    places = {symbol: one.places for symbol, one in lifted.items()}
    found = plans(calls, places, frozenset(symbol for symbol, one in lifted.items() if one.threads))
    arena = max(max(found[size.function].bytes for size in model.sizes), ALIGNMENT)
    return Parts(calls, found, tuple(units), replace(model, arena=arena))


def main_object(parts: Parts, target: Target) -> bytes:
    """The object of the functions that an application calls, with the constants."""
    name = parts.api.name
    word = "i32" if target.arch == "wasm32" else "i64"
    with Scratch() as folder:
        file = Path(folder) / "constants.bin"
        file.write_bytes(_blob(parts.calls))
        sizes = [padded(array.nbytes) for array in parts.calls.constants]
        texts = [
            constants(name, sizes, file, target.arch), *map(region, parts.regions),
            network(name, parts.calls, parts.plans), probe(name, target.arch, needed(target), word),
            api(parts.api, word),
        ]  # fmt: skip
        return ir_object("\n".join(texts), _oldest(target).tvm)


def c_source(parts: Parts, target: Target, header: str) -> str:
    """The network as one file of C; its units are assembly. header: the name of the header's file."""
    architecture = find(target.arch)
    ask = NO_PROBE if architecture is None or architecture.probe is None else architecture.probe(needed(target))
    ask += fits(needed(target)) if target.arch == "x86" else _FITS
    texts = [unit.content.decode() for unit in parts.units]
    ahead = allowed(target.arch, needed(target)) + ask
    return source(parts.api, parts.calls, parts.plans, texts, parts.regions, ahead, header)


def _oldest(target: Target) -> Target:
    """The oldest CPU of the target's architecture: what asks the CPU has to run on any."""
    architecture = find(target.arch)
    plain = "generic" if architecture is None else architecture.plain
    return replace(target, cpu=plain, features=())


def _renamed(calls: Calls, names: Mapping[str, str]) -> Calls:
    functions = tuple(
        replace(f, calls=tuple(replace(call, symbol=names.get(call.symbol, call.symbol)) for call in f.calls))
        for f in calls.functions
    )
    return replace(calls, functions=functions)


def _blob(calls: Calls) -> bytes:
    """The constants one behind the other, each at a multiple of the alignment; never empty."""
    parts = []
    for array in calls.constants:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes() if array.size else b""
        parts.append(content.ljust(padded(len(content)), b"\0"))
    return b"".join(parts) or b"\0" * 64
