"""Digests of the code that families emit today for a layer, remembered on disk.

Emitting takes from milliseconds to a second. The memory is a cache and nothing more: its keys have all that a kernel is
made from, the files that emit it among it. What families and writers of users emit is not remembered.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tesa.base.installed import source_digest
from tesa.base.version import versions
from tesa.build.cache import Cache
from tesa.build.digest import code_digest
from tesa.build.objects import symbol_of
from tesa.decompose.registry import find_policy, is_composite
from tesa.schedules.cpu.writers.registry import find_writer
from tesa.schedules.registry import families, find
from tesa.schedules.types import Config, FloatArray, Problem
from tesa.targets.target import Target

_SOURCES = ("tesa.schedules", "tesa.decompose", code_digest.__module__)
_OURS = ("tesa.schedules.", "tesa.decompose.")


@dataclass(frozen=True, eq=False)
class EmittedByFamilies:
    """The answers to what valid() asks about a layer.

    weight: (m, k); weight_digest: of it. cache: where answers are kept, by default the user's.
    """

    problem: Problem
    weight: FloatArray
    target: Target
    weight_digest: str
    cache: Cache = field(default_factory=Cache)

    def __call__(self, family: str, config: Config) -> str:
        """The digest of the code that a family emits today, "" if there is none."""
        try:
            made = find(family, self.target.kind)
            symbol = symbol_of(self.problem, self.weight, self.target, family, config, self.weight_digest)
            key = _key(symbol) if self.stamp(family) else ""
            found = self.cache.get(key) if key else None
            if found is not None:
                return found.decode()
            answer = code_digest(made.emit(self.problem, self.weight, self.target.machine, config, symbol), symbol)
        except Exception:  # what a family can do no more is not what was measured
            return ""
        if key:
            self.cache.put(key, answer.encode())
        return answer

    def stamp(self, family: str) -> str:
        """The digest of the source files that emit a family's code; "" where a user's have a part in it."""
        return stamp(family, self.target)


def stamp(family: str, target: Target) -> str:
    """The digest of the source files that emit a family's code; "" where a user's have a part in it.

    >>> from tesa.targets.target import parse_target
    >>> len(stamp("dense", parse_target("x86:haswell"))), stamp("mine", parse_target("x86:haswell"))
    (32, '')
    """
    there = {made.name: made for made in families(target.kind)}
    if family not in there:
        return ""
    parts: list[Any] = [there[family].emit]
    if target.gpu is None:
        parts.append(find_writer(target.core).write)
    if is_composite(family):  # whose pieces any family may compute
        parts += [find_policy(family).split, *(made.emit for made in there.values())]
    return source_digest(*_SOURCES) if all(str(part.__module__).startswith(_OURS) for part in parts) else ""


def _key(symbol: str) -> str:
    """The key in the cache: the symbol identifies the kernel, the rest what emits it."""
    facts = (symbol, source_digest(*_SOURCES), sorted(versions().items()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()
