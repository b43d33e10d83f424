"""Turns generated code into object files, each at most once."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tesa.attributes.patterns import digest
from tesa.base.files import atomic_path
from tesa.base.hostinfo import free_memory, usable_cpus
from tesa.base.told import word
from tesa.base.version import versions
from tesa.build.cache import Cache
from tesa.build.compile import called, object_of, source_of
from tesa.schedules.types import Assembly, Code, Config, FloatArray, Problem, Tir
from tesa.targets.target import Target

COMPILER_BYTES = 600 << 20
"""Memory of one compiler process: half of it is TVM itself, and a panel of straight-line code takes some more."""


class BuildError(Exception):
    """Code could not be compiled. The text says why."""


@dataclass(frozen=True)
class Object:
    """The content of an object file, and its key in the cache."""

    key: str
    content: bytes


def compilers(cpus: int | None = None, free: int | None = None) -> tuple[int, str]:
    """The number of compiler processes that this machine bears, and a remark where these are fewer than CPUs, else "".

    cpus, free (bytes): of this machine by default.

    >>> compilers(8, 2 << 30)
    (3, 'compiling with 3 processes, not 8: 2.0 GiB of memory are free, and each may need 0.6 GiB')
    >>> compilers(2, 8 << 30)
    (2, '')
    """
    cpus, free = cpus or usable_cpus(), free_memory() if free is None else free
    if free is None or free >= cpus * COMPILER_BYTES:
        return cpus, ""
    count = max(free // COMPILER_BYTES, 1)
    processes = f"{count} process{'es' if count > 1 else ''}"
    return count, (
        f"compiling with {processes}, not {cpus}: {free / (1 << 30):.1f} GiB of memory are free, and each may need "
        f"{COMPILER_BYTES / (1 << 30):.1f} GiB"
    ) if count < cpus else ""


def symbol_of(
    problem: Problem, weight: FloatArray, target: Target, family: str, config: Config, known: str | None = None
) -> str:
    """The name of a kernel's function: "tesa_" and 16 hexadecimal digits that identify everything that shapes it.

    known: the weight's digest, where the caller has it.
    """
    machine = asdict(target.machine)
    facts = [asdict(problem), known or digest(weight), target.tvm, machine, family, dict(config)]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "tesa_" + hashlib.sha256(text.encode()).hexdigest()[:16]


def build_objects(symbol: str, code: Code, target: Target, cache: Cache | None = None) -> tuple[Object, ...]:
    """Compile code to object files: main's, whose name is symbol, first, then one for each tuple of panels.

    An object that is in the cache is taken from there, a new one is put there. The same code and target give the same
    bytes. Raises BuildError with the symbol and the compiler's words; a crash in LLVM is the caller's.
    """
    objects = []
    for unit in called(code, symbol, target).units(symbol):
        key = _key(unit, target)
        content = None if cache is None else cache.get(key)
        if content is None:
            try:
                content = object_of(unit, target.tvm)
            except Exception as error:  # whatever TVM raises is this candidate's failure
                raise BuildError(f"{unit.name}: {type(error).__name__}: {error}".split("\nTraceback")[0]) from error
            if cache is not None:
                cache.put(key, content)
        objects.append(Object(key, content))
    return tuple(objects)


def write_objects(objects: Iterable[Object], folder: Path) -> tuple[Path, ...]:
    """Write objects into folder, those that are not there already. Raises UsageError as atomic_path."""
    paths = []
    for item in objects:
        path = folder / f"{word(item.key[:32], 'an object file')}.o"
        if not path.exists():
            with atomic_path(path) as aside:
                aside.write_bytes(item.content)
        paths.append(path)
    return tuple(paths)


def _key(unit: Tir | Assembly, target: Target) -> str:
    """A digest of what an object is made from, and by what."""
    import tvm

    tvm_target = json.dumps(target.tvm, sort_keys=True)
    if isinstance(unit, Assembly):
        parts = ["assembly", tvm_target, unit.text]
    else:
        texts = [text for name, function in unit.functions for text in (name, str(tvm.ir.save_json(function)))]
        # our own pipeline is part of what an object was made by; TVM's is known by its version
        ours = source_of(unit.pipeline)
        parts = [unit.pipeline, ours, tvm_target, *texts]
    hasher = hashlib.sha256()
    for part in (*versions().values(), *parts):
        content = part.encode()
        hasher.update(b"%d\n" % len(content))
        hasher.update(content)
    return hasher.hexdigest()
