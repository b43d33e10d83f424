"""Digests of the code that families emit today for a layer, remembered on disk.

Emitting takes from milliseconds to a second. The memory is a cache and nothing more: its keys have all that a kernel is
made from, the files of tesa's own families among it. What families of users and decompositions emit is not remembered.
"""

from __future__ import annotations

import hashlib

import tesa.decompose  # noqa: F401  registers the families
from tesa.base.installed import source_digest
from tesa.build.cache import Cache
from tesa.build.digest import code_digest
from tesa.build.jobs import versions
from tesa.build.objects import symbol_of
from tesa.records.validity import Emitted
from tesa.schedules.registry import find
from tesa.schedules.types import Config, FloatArray, Problem
from tesa.targets.target import Target

_FAMILIES = "tesa.schedules"


def emitted_by_families(
    problem: Problem, weight: FloatArray, target: Target, digest: str, cache: Cache | None = None
) -> Emitted:
    """The function that valid() asks: emitted(family, config) is the digest of today's code, "" if there is none.

    weight: (m, k); digest: of the weight. cache: where answers are kept, by default the user's.
    """
    kept = Cache() if cache is None else cache

    def emitted(name: str, config: Config) -> str:
        try:
            family = find(name)
            symbol = symbol_of(problem, weight, target, name, config, digest)
            key = ""
            if family.emit.__module__.startswith(
                f"{_FAMILIES}."
            ):  # the symbol identifies the kernel, the rest emits it
                facts = (symbol, source_digest(_FAMILIES, code_digest.__module__), sorted(versions().items()))
                key = hashlib.sha256(repr(facts).encode()).hexdigest()
            found = kept.get(key) if key else None
            if found is not None:
                return found.decode()
            answer = code_digest(family.emit(problem, weight, target.core, config, symbol), symbol)
        except Exception:  # what a family can do no more is not what was measured
            return ""
        if key:
            kept.put(key, answer.encode())
        return answer

    return emitted
