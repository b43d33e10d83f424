"""Identifies generated code by its content, so that a measurement can say which code it was made with."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tesa.schedules.gpus import GpuCode, GpuTir
from tesa.schedules.types import Code, Tir

_KERNEL = "KERNEL"  # stands in the digest for the kernel's own symbol


def code_digest(code: Code | GpuCode, symbol: str) -> str:
    """16 hexadecimal digits of all that was emitted: functions, assembly and constants, but not the kernel's name.

    symbol: the name that the code was emitted with, a word that occurs in it for nothing else. Equal code has the same
    digest in every process and under every symbol; another instruction, constant or pipeline gives another one. Names
    of variables, and the lines of Python that a function was read from, are no part of the code.
    """
    hasher = hashlib.blake2b(digest_size=8)
    for text in _gpu_texts(code, symbol) if isinstance(code, GpuCode) else _texts(code, symbol):
        hasher.update(f"\n{len(text)}\n{text}".encode())
    for constant in code.constants:
        hasher.update(f"\n{constant.dtype} {constant.shape}\n".encode())
        hasher.update(np.ascontiguousarray(constant).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def _texts(code: Code, symbol: str) -> Iterator[str]:
    for unit in code.units(symbol):
        if isinstance(unit, Tir):
            for name, function in unit.functions:
                yield f"{unit.pipeline} {name.replace(symbol, _KERNEL)} {structure(function, symbol):x}"
        else:
            yield unit.text.replace(symbol, _KERNEL)


def _gpu_texts(code: GpuCode, symbol: str) -> Iterator[str]:
    """The modules, and the launches with the memory that they share."""
    for module in code.modules:
        if isinstance(module, GpuTir):
            for name, function in module.functions:
                yield f"{name.replace(symbol, _KERNEL)} {structure(function, symbol):x}"
        else:
            yield module.text.replace(symbol, _KERNEL)
    yield f"{code.launches} {code.scratch}".replace(symbol, _KERNEL)


def structure(function: Any, symbol: str) -> int:
    """A hash of what a function of TVM computes; symbol does not count, wherever it is part of a name."""
    import tvm_ffi
    from tvm.ir import StringImm

    def without(text: Any) -> Any:
        return StringImm(text.value.replace(symbol, _KERNEL)) if symbol in text.value else text

    mapped = tvm_ffi.structural_map(function, (StringImm, without))
    name = str(mapped.attrs["global_symbol"]).replace(symbol, _KERNEL)
    return int(tvm_ffi.structural_hash(mapped.with_attr("global_symbol", name)))
