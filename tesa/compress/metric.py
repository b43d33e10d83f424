"""A user's measure of a model's outputs, out of a file of Python."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError

Arrays = Mapping[str, NDArray[Any]]

_USE = "it is called as metric(outputs, data), with arrays by name, and returns a number, larger for a better model"


@dataclass(frozen=True)
class Metric:
    """A function that tells how good outputs are: larger is better. name: the file it is from, in messages. source: its
    text, by which a log tells metrics apart; the name of a function."""

    function: Callable[[Arrays, Arrays], float]
    name: str = "the metric"
    source: str = ""

    def __call__(self, outputs: Arrays, data: Arrays) -> float:
        """The number for outputs of all samples by name, and the arrays of the data that are no inputs.

        Raises UsageError where the function raises, or returns anything but a finite number.
        """
        try:
            found = self.function(outputs, data)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UsageError(f"{self.name} raised {text}; {_USE}") from error
        if np.ndim(found) or isinstance(found, str | bytes) or found is None or not math.isfinite(float(found)):
            raise UsageError(f"{self.name} returned {found!r}, which is no finite number; {_USE}")
        return float(found)


def read_metric(metric: str | Path | Metric | Callable[[Arrays, Arrays], float] | None) -> Metric | None:
    """The metric of a file with a function called metric (or accuracy, or the name of the file), or of a function.

    Raises UsageError for a file that is not there, that raises, or that has no such function.

    >>> read_metric(lambda outputs, data: 1.0)({}, {})
    1.0
    """
    if metric is None or isinstance(metric, Metric):
        return metric
    if callable(metric):
        name = getattr(metric, "__qualname__", "the metric")
        return Metric(metric, name, name)
    path = Path(metric)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; write one with a function metric(outputs, data)")
    try:
        names = runpy.run_path(str(path))
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{path} cannot be imported: {text}") from error
    for name in ("metric", path.stem, "accuracy"):
        if callable(names.get(name)):
            return Metric(names[name], f"{path}: {name}", path.read_text(encoding="utf-8"))
    raise UsageError(f"{path} has no function called metric; {_USE}")
