"""Turns what the other parts return into plain data that JSON can hold."""

import dataclasses
import math
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, sequences as lists, NumPy values as Python's; NaN and infinity as null.

    Raises TypeError for anything else that JSON does not know.

    >>> from tesa.base.progress import Event
    >>> plain({"event": Event("build", 1, 2), "times": (np.float32(0.5), float("nan"))})
    {'event': {'phase': 'build', 'done': 1, 'total': 2, 'text': '', 'notice': False}, 'times': [0.5, None]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, PathLike):
        return fspath(value)
    raise TypeError(f"{type(value).__name__} is no plain data")
