"""Brings what a user registered, kernel families, policies and patterns, to the processes that generate code.

A child imports tesa's own. What a notebook, a test or a user's file registered in the parent is sent along as pickled
functions, so that nothing of it has to be installed where code is generated.
"""

from __future__ import annotations

import hashlib
import importlib
import pickletools
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tesa.attributes import patterns as pattern
from tesa.attributes.patterns import PatternKind
from tesa.base.extras import install
from tesa.errors import UsageError
from tesa.extension import PREFIX
from tesa.schedules import registry
from tesa.schedules.registry import Family
from tesa.tune.builders import sources
from tesa.tune.builders.sources import Sources

if TYPE_CHECKING:
    from tesa.decompose.registry import Policy
    from tesa.schedules.cpu.writers.registry import Writer

_OURS = ("tesa.schedules.", "tesa.decompose.")
_HOME = ("tesa.schedules.cpu", "tesa.decompose")  # imported late: a worker of the cluster itself does not need TVM

_SITES = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Families:
    """Everything that generates code, in a form that travels.

    modules: to import, they register tesa's own. added: what a user registered on top, Added as a pickle; sources: of
    the functions in it.
    """

    modules: tuple[str, ...]
    added: bytes = b""
    sources: Sources = field(default_factory=Sources)

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        text = f"{self.modules} {self.sources}".encode(errors="surrogatepass")
        return hashlib.sha256(b"\0".join((text, self.added))).hexdigest()


@dataclass(frozen=True)
class Added:
    """The things that a user registered beside tesa's own. A policy brings its kernel family with it."""

    families: tuple[Family, ...] = ()
    policies: tuple[Policy, ...] = ()
    patterns: tuple[PatternKind, ...] = ()
    writers: tuple[Writer, ...] = ()

    def __str__(self) -> str:
        parts = (
            ("kernel families", self.families),
            ("policies", self.policies),
            ("patterns", self.patterns),
            ("writers", self.writers),
        )
        return ", ".join(f"{kind} {', '.join(one.name for one in found)}" for kind, found in parts if found)

    def each(self) -> Iterator[Added]:
        """Each one alone."""
        yield from (Added(families=(one,)) for one in self.families)
        yield from (Added(policies=(one,)) for one in self.policies)
        yield from (Added(patterns=(one,)) for one in self.patterns)
        yield from (Added(writers=(one,)) for one in self.writers)


def gather() -> Families:
    """Everything that this process knows to generate code with, in a form that travels.

    Raises UsageError where something of a user's cannot be sent: cloudpickle is missing, or a function holds what
    cannot be pickled.

    >>> gather().added
    b''
    """
    for module in _HOME:
        importlib.import_module(module)
    from tesa.decompose.registry import is_composite, policies
    from tesa.schedules.cpu.writers.registry import writers

    modules = tuple(sorted({*_HOME} | {name for name in list(sys.modules) if name.startswith(_OURS)}))
    families = registry.families()
    added = Added(
        tuple(one for one in families if not is_composite(one.name) and not _brought(one.emit)),
        tuple(one for one in policies() if not _brought(one.split)),
        tuple(one for one in pattern.patterns() if not _brought(one.recognise)),
        tuple(one for one in writers() if not _brought(one.write)),
    )
    return Families(modules, *_dumped(added))


_adopted, _adopted_sources = Added(), Sources()
_replaced: tuple[Family, ...] = ()  # families of tesa's whose names a user's have taken


def adopt(families: Families) -> None:
    """Make them known to this process, and nothing else of a user's that it adopted before."""
    global _adopted, _adopted_sources, _replaced
    for module in families.modules:
        importlib.import_module(module)
    from tesa.decompose.policy import install
    from tesa.schedules.cpu.writers.registry import install_writer

    _withdraw(_adopted)
    sources.forget(_adopted_sources)
    _adopted, _adopted_sources, _replaced = Added(), families.sources, ()
    if not families.added:
        return
    found: Added = sources.loads(families.added, families.sources)
    _adopted = found
    taken = {(family.kind, family.name) for family in found.families}
    _replaced = tuple(family for family in registry.families() if (family.kind, family.name) in taken)
    for family in found.families:
        registry.install(family)
    for one in found.policies:
        install(one)
    for kind in found.patterns:
        pattern.install(kind)
    for writer in found.writers:
        install_writer(writer)


def _withdraw(added: Added) -> None:
    from tesa.decompose.policy import forget
    from tesa.decompose.registry import policies
    from tesa.schedules.cpu.writers.registry import forget_writer, writers

    for one in added.policies:
        if one in policies():
            forget(one.name)
    for family in added.families:
        if family in registry.families():
            registry.forget(family.name, family.kind)
    for family in _replaced:
        registry.install(family)
    for kind in added.patterns:
        if kind in pattern.patterns():
            pattern.forget(kind.name)
    for writer in added.writers:
        if writer in writers():
            forget_writer(writer.name)


def _brought(function: Any) -> bool:
    """True where importing a module of tesa's brings it. What a doctest defines claims to be of such a module, too."""
    home = str(getattr(function, "__module__", None))
    found: Any = sys.modules.get(home) if home.startswith("tesa.") else None
    for name in str(getattr(function, "__qualname__", "")).split("."):
        found = getattr(found, name, None)
    return found is not None and found is function


def _dumped(added: Added) -> tuple[bytes, Sources]:
    if added == Added():
        return b"", Sources()
    try:
        cloudpickle = importlib.import_module("cloudpickle")
    except ImportError as error:
        raise UsageError(
            f"the {added} are not tesa's own, and sending them to the compiler processes needs cloudpickle: "
            f"{install('tune')}"
        ) from error
    try:
        return _by_value(added, cloudpickle)
    except Exception as error:
        raise UsageError(
            f"the {_culprits(added, cloudpickle)} cannot be sent to the compiler processes: {type(error).__name__}: "
            f"{error}; their functions must not hold open files, locks or the like"
        ) from error


def _culprits(added: Added, cloudpickle: Any) -> str:
    """The names of those that cannot be sent alone either."""
    wrong = []
    for one in added.each():
        try:
            _by_value(one, cloudpickle)
        except Exception:
            wrong.append(str(one))
    return ", ".join(wrong) or str(added)


def _by_value(added: Added, cloudpickle: Any) -> tuple[bytes, Sources]:
    """A pickle with the code of all the user's own modules that they come from, as far as that can be pickled."""
    by_name = sources.dumps(added)
    found, done = by_name, set[str]()
    listed: list[ModuleType] = []
    try:
        while new := [module for module in _users_modules(found[0]) if module.__name__ not in done]:
            done |= {module.__name__ for module in new}
            for module in new:
                cloudpickle.register_pickle_by_value(module)
                listed.append(module)
            found = sources.dumps(added)
    except Exception:  # a lock or an open file beside the functions: the child has to import the module
        if any(module.__name__.startswith(PREFIX) for module in listed):
            raise
        return by_name
    finally:
        for module in listed:
            cloudpickle.unregister_pickle_by_value(module)
    return found


def _users_modules(blob: bytes) -> Iterator[ModuleType]:
    """The modules named in a pickle that belong to no installed package."""
    library = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    for _, argument, _ in pickletools.genops(blob):
        module = sys.modules.get(argument) if isinstance(argument, str) else None
        path = getattr(module, "__file__", None)
        if module is None or path is None or module.__name__ == "__main__":
            continue
        ours = module.__name__.split(".")[0] == "tesa"
        # Also those of the user's own site, and of the Python below a virtual environment.
        installed = str(path).startswith(library) or not _SITES.isdisjoint(Path(path).parts)
        if module.__name__.startswith(PREFIX) or not (ours or installed):
            yield module
