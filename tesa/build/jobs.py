"""The object files that generated code becomes, each as a job for a compiler process and with its key in the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path
from typing import Any

from tesa.base.version import __version__
from tesa.schedules.types import Assembly, Code, Tir
from tesa.targets.target import Target

_COMPILE = "tesa.build.compile"


@dataclass(frozen=True)
class Job:
    """An object file to make, by calling function(*arguments) in any process.

    name: of a symbol in it, for messages; function: "module:name"; key: of the object in the cache; size: characters
    of code, to which the time to compile it is about proportional.
    """

    name: str
    function: str
    arguments: tuple[Any, ...]
    key: str
    size: int


def jobs_of(symbol: str, code: Code, target: Target) -> tuple[Job, ...]:
    """One job for each object file of code, main's first. symbol: the name of main."""
    tvm_target = json.dumps(target.tvm, sort_keys=True)
    return tuple(
        _assembly(unit, tvm_target) if isinstance(unit, Assembly) else _functions(unit, tvm_target)
        for unit in code.units(symbol)
    )


@remember
def versions() -> dict[str, str]:
    """What the bytes of an object depend on beside the code and the target."""
    import tvm
    import tvm_ffi

    return {"tesa": __version__, "tvm": str(tvm.__version__), "tvm_ffi": str(tvm_ffi.__version__)}


def _functions(unit: Tir, target: str) -> Job:
    import tvm

    texts = tuple((symbol, str(tvm.ir.save_json(function))) for symbol, function in unit.functions)
    parts = [text for pair in texts for text in pair]
    key = _key(unit.pipeline, _pipeline_source(unit.pipeline), target, *parts)
    size = sum(len(text) for text in parts)
    return Job(unit.name, f"{_COMPILE}:object_of_functions", (texts, target, unit.pipeline), key, size)


def _assembly(unit: Assembly, target: str) -> Job:
    arguments = (unit.text, target)
    return Job(
        unit.name, f"{_COMPILE}:object_of_assembly", arguments, _key("assembly", target, unit.text), len(unit.text)
    )


def _key(*parts: str) -> str:
    """A digest of what an object is made from, and by what."""
    hasher = hashlib.sha256()
    for part in (*versions().values(), *parts):
        content = part.encode()
        hasher.update(b"%d\n" % len(content))
        hasher.update(content)
    return hasher.hexdigest()


@remember
def _pipeline_source(pipeline: str) -> str:
    """The code of our own pipeline is part of what an object was made by; TVM's is known by its version."""
    if pipeline != "straight":
        return ""
    from tesa.schedules.cpu import straight

    return hashlib.sha256(Path(straight.__file__).read_bytes()).hexdigest()
