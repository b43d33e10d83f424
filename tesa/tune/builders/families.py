"""Brings the kernel families that a user registered to the processes that generate code.

A child imports tesa's own families. What a notebook, a test or a user's file registered in the parent is sent along as
pickled functions, so that nothing of it has to be installed where code is generated.
"""

from __future__ import annotations

import hashlib
import importlib
import pickle
import pickletools
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tesa.errors import UsageError
from tesa.schedules import registry
from tesa.schedules.registry import Schedule

_OURS = ("tesa.schedules.", "tesa.transform.")
_HOME = "tesa.schedules.cpu"


@dataclass(frozen=True)
class Families:
    """modules: to import, they register tesa's own. added: pickled Schedules on top; own: those that tesa's policies
    made, which count only where the modules did not bring them."""

    modules: tuple[str, ...]
    added: bytes = b""
    own: bytes = b""

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        text = "\n".join(self.modules).encode()
        return hashlib.sha256(b"\0".join((text, self.added, self.own))).hexdigest()


def gather() -> Families:
    """Every family that this process knows, in a form that travels.

    Raises UsageError where a user's family cannot be sent: cloudpickle is missing, or its functions hold what cannot
    be pickled.

    >>> gather().added
    b''
    """
    importlib.import_module(_HOME)
    modules = tuple(sorted({_HOME} | {name for name in list(sys.modules) if name.startswith(_OURS)}))
    added: dict[str, Schedule] = {}
    made: dict[str, Schedule] = {}
    for name, family in registry._SCHEDULES.items():  # the families of every architecture; schedules() has one
        home = str(getattr(family.emit, "__module__", None))
        if not home.startswith("tesa."):
            added[name] = family
        elif not _found_by_import(family.emit):
            made[name] = family
    return Families(modules, _dumped(added), _try(made))


def adopt(families: Families) -> None:
    """Make the families known to this process."""
    for module in families.modules:
        importlib.import_module(module)
    if families.own:
        for name, family in pickle.loads(families.own).items():
            registry._SCHEDULES.setdefault(name, family)
    if families.added:
        registry._SCHEDULES.update(pickle.loads(families.added))


def _found_by_import(function: Any) -> bool:
    found: Any = sys.modules.get(function.__module__)
    for name in str(getattr(function, "__qualname__", "")).split("."):
        found = getattr(found, name, None)
    return found is function


def _try(families: Mapping[str, Schedule]) -> bytes:
    """Nothing where they cannot be pickled: importing tesa's modules brings them anyway."""
    try:
        return _dumped(families)
    except UsageError:
        return b""


def _dumped(families: Mapping[str, Schedule]) -> bytes:
    if not families:
        return b""
    names = ", ".join(families)
    try:
        cloudpickle = importlib.import_module("cloudpickle")
    except ImportError as error:
        raise UsageError(
            f"the kernel families {names} are not tesa's own, and sending them to the compiler processes needs "
            "cloudpickle: pip install 'tesa[tune]'"
        ) from error
    try:
        return _by_value(dict(families), cloudpickle)
    except Exception as error:
        raise UsageError(
            f"the kernel families {names} cannot be sent to the compiler processes: {type(error).__name__}: {error}; "
            "their functions must not hold open files, locks or the like"
        ) from error


def _by_value(families: dict[str, Schedule], cloudpickle: Any) -> bytes:
    """With the code of all the user's own modules that they come from, as far as that can be pickled."""
    by_name: bytes = cloudpickle.dumps(families)
    blob, done = by_name, set[str]()
    listed: list[ModuleType] = []
    try:
        while new := [module for module in _users_modules(blob) if module.__name__ not in done]:
            done |= {module.__name__ for module in new}
            for module in new:
                cloudpickle.register_pickle_by_value(module)
                listed.append(module)
            blob = cloudpickle.dumps(families)
    except Exception:  # a lock or an open file beside the functions: the child has to import the module
        return by_name
    finally:
        for module in listed:
            cloudpickle.unregister_pickle_by_value(module)
    return blob


def _users_modules(blob: bytes) -> Iterator[ModuleType]:
    """The modules named in a pickle that belong to no installed package."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    for _, argument, _ in pickletools.genops(blob):
        module = sys.modules.get(argument) if isinstance(argument, str) else None
        path = getattr(module, "__file__", None)
        if module is None or path is None or module.__name__ == "__main__":
            continue
        if module.__name__.split(".")[0] != "tesa" and not str(path).startswith(tuple(installed)):
            yield module
