"""Modules under the names that they had before the rooms were laid anew: importing one gives the module of now.

One table, and a finder at the end of Python's own: it is asked only for what nobody else knows.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "tesa.attribute": "tesa.attributes.attribute",
    "tesa.demo": "tesa.models.demo",
    "tesa.files": "tesa.base.files",
    "tesa.grid": "tesa.attributes.quantization",
    "tesa.hostinfo": "tesa.base.hostinfo",
    "tesa.inspect": "tesa.analyze.inspection",
    "tesa.lower": "tesa.layers",
    "tesa.pattern": "tesa.attributes.patterns",
    "tesa.plan": "tesa.choose.plan",
    "tesa.prepare": "tesa.layers.prepare",
    "tesa.problem": "tesa.layers.problem",
    "tesa.progress": "tesa.base.progress",
    "tesa.selftest": "tesa.doctor.selftest",
    "tesa.single": "tesa.kernels.kernel",
    "tesa.target": "tesa.targets.target",
    "tesa.transform": "tesa.decompose",
    "tesa.tune.costs": "tesa.costs",
    "tesa.tune.log": "tesa.records.log",
    "tesa.tune.lookup": "tesa.records.lookup",
    "tesa.tune.remote": "tesa.measure.remote",
    "tesa.workers": "tesa.base.workers",
}


def new_name(name: str) -> str | None:
    """The name that a module has now; None if it never had another.

    >>> new_name("tesa.transform.policy"), new_name("tesa.runtime")
    ('tesa.decompose.policy', None)
    """
    parts = name.split(".")
    for count in range(len(parts), 1, -1):
        head = ".".join(parts[:count])
        if head in MOVED:
            return ".".join([MOVED[head], *parts[count:]])
    return None


class _Moved:
    """Finds and loads a module by its old name."""

    def __init__(self) -> None:
        self._specs: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        del path, target
        name = new_name(fullname)
        found = None if name is None else importlib.util.find_spec(name)
        return None if found is None else ModuleSpec(fullname, self, origin=found.origin)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = str(new_name(spec.name))
        warnings.warn(f"{spec.name} is called {name} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(name)
        self._specs[name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already, under its own name, which importing it by the old one must not take from it."""
        module.__spec__ = self._specs[module.__name__]

    def get_code(self, fullname: str) -> Any:
        """For `python -m`: the code of the module of now."""
        spec: Any = importlib.util.find_spec(str(new_name(fullname)))
        return spec.loader.get_code(spec.name)


def install() -> None:
    """Let old names be imported in this process."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
