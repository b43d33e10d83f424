"""Modules under the names that they had before the rooms were laid anew: importing one gives the module of now.

One table, and a finder at the end of Python's own: it is asked only for what nobody else knows.
"""

import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "tesa.attribute": "tesa.attributes.attribute",
    "tesa.demo": "tesa.models.demo",
    "tesa.frontend.custom": "tesa.frontend.registry",
    "tesa.inspect": "tesa.analyze.inspection",
    "tesa.pattern": "tesa.attributes.patterns",
    "tesa.plan": "tesa.choose.plan",
    "tesa.progress": "tesa.base.progress",
    "tesa.propagate.causes": "tesa.propagate.explain.provenance",
    "tesa.propagate.content": "tesa.propagate.bits.constant_grid",
    "tesa.propagate.effective": "tesa.propagate.effective_weights",
    "tesa.propagate.given": "tesa.propagate.user_facts",
    "tesa.propagate.grids": "tesa.propagate.bits.grids",
    "tesa.propagate.groups": "tesa.propagate.scramble.groups",
    "tesa.propagate.intervals": "tesa.propagate.bits.intervals",
    "tesa.propagate.kernels": "tesa.propagate.tir_analysis",
    "tesa.propagate.layer_bits": "tesa.propagate.bits.layer_bits",
    "tesa.propagate.needs": "tesa.propagate.bits.common_grid",
    "tesa.propagate.outcomes": "tesa.propagate.scramble.invariant",
    "tesa.propagate.precision": "tesa.propagate.bits.precision",
    "tesa.propagate.ranges": "tesa.propagate.bits.ranges",
    "tesa.propagate.samples": "tesa.propagate.scramble.samples",
    "tesa.propagate.search": "tesa.propagate.scramble.search",
    "tesa.propagate.subject": "tesa.propagate.scramble.experiment",
    "tesa.runtime.peers": "tesa.base.onnxruntime",
    "tesa.selftest": "tesa.doctor.selftest",
    "tesa.single": "tesa.kernels.kernel",
    "tesa.target": "tesa.targets.target",
    "tesa.transform": "tesa.decompose",
    "tesa.tune.costs": "tesa.costs",
    "tesa.tune.log": "tesa.records.log",
    "tesa.tune.lookup": "tesa.records.lookup",
    "tesa.tune.remote": "tesa.measure.remote",
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


class _Alias(ModuleType):
    """Stands for a module under an old name. Not the module itself: importing it must leave that as it is."""

    _module: ModuleType

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # such as __path__, by which modules within would be loaded a second time
            raise AttributeError(name)
        return getattr(self._module, name)

    def __dir__(self) -> list[str]:
        return dir(self._module)


class _Moved:
    """Finds and loads a module by its old name."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        del path, target
        name = new_name(fullname)
        found = None if name is None else importlib.util.find_spec(name)
        if found is None:
            return None
        package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, self, origin=found.origin, is_package=package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = str(new_name(spec.name))
        warnings.warn(f"{spec.name} is called {name} now", DeprecationWarning, stacklevel=2)
        alias = _Alias(spec.name)
        alias._module = importlib.import_module(name)
        return alias

    def exec_module(self, module: ModuleType) -> None:
        """The module of now has run already."""

    def get_code(self, fullname: str) -> Any:
        """For `python -m`: the code of the module of now."""
        spec: Any = importlib.util.find_spec(str(new_name(fullname)))
        return spec.loader.get_code(spec.name)


def install() -> None:
    """Let old names be imported in this process."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
