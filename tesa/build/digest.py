"""Identifies generated code by its content, so that a measurement can say which code it was made with."""

from __future__ import annotations

import hashlib
import re

import numpy as np

from tesa.schedules.types import Code, Tir

_KERNEL = "KERNEL"
_PLACES = re.compile(r'(?<="type":"ir\.Span"),"data":\{[^}]*\}|(?<="type":"ir\.SourceName"),"data":"[^"]*"')
"""Lines of source files that functions of TVMScript were read from."""


def code_digest(code: Code, symbol: str) -> str:
    """16 hexadecimal digits of all that was emitted: functions, assembly and constants, but not the kernel's name.

    symbol: the name that the code was emitted with, a word that occurs in it for nothing else. The same code has the
    same digest in every process and under every symbol; another instruction, weight or pipeline gives another one.
    """
    hasher = hashlib.blake2b(digest_size=8)
    for unit in code.units(symbol):
        if isinstance(unit, Tir):
            hasher.update(f"\n{unit.pipeline}".encode())
            texts = [f"{name}\n{serialized(function)}" for name, function in unit.functions]
        else:
            texts = [unit.text]
        for text in texts:
            content = text.replace(symbol, _KERNEL).encode()
            hasher.update(b"\n%d\n" % len(content))
            hasher.update(content)
    for constant in code.constants:
        hasher.update(f"\n{constant.dtype} {constant.shape}\n".encode())
        hasher.update(np.ascontiguousarray(constant).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def serialized(function: object) -> str:
    """A function of TVM as JSON: equal for equal functions, wherever and by whichever version they were written."""
    import tvm

    text = str(tvm.ir.save_json(function))
    text = text[: text.rindex(',"metadata":')]
    return _PLACES.sub("", text) if '"ir.Span"' in text else text
