"""The work of a compiler process: emit the kernel of one candidate, and compile all its objects.

It runs in a child, here or on a machine of the cluster, so that an endless or crashing compiler costs one candidate.
The objects go through the cache and the keys of tesa.build.objects: what was built here, `tesa compile` finds built.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.told import Untruthful, identifier, line, shown
from tesa.build.cache import Cache
from tesa.build.digest import code_digest
from tesa.build.footprint import Footprint, footprint
from tesa.build.objects import BuildError, Object, build_objects, symbol_of
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import BuildRequest
from tesa.schedules.registry import find
from tesa.schedules.types import FloatArray
from tesa.tune.builders.families import Families, adopt

_KEY = re.compile(r"[0-9a-f]{8,128}", re.ASCII)
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Job:
    """A candidate to build, with the kernel families that its process has to know."""

    request: BuildRequest
    families: Families

    @property
    def bare(self) -> Job:
        """The job without its weight (m, k), which travels apart, once for all candidates of a layer."""
        return self.with_weight(np.zeros((0, 0), np.float32))

    def with_weight(self, weight: FloatArray) -> Job:
        """The job with its weight (m, k) again."""
        return replace(self, request=replace(self.request, weight=weight))


@dataclass(frozen=True)
class Package:
    """A built kernel. warnings: texts that the child would have told the user; code: digest of what was emitted.

    footprint: the bytes that it takes.
    """

    symbol: str
    objects: tuple[Object, ...]
    constants: tuple[NDArray[Any], ...] = ()
    warnings: tuple[str, ...] = ()
    code: str = ""
    footprint: Footprint = field(default_factory=Footprint)


Result = Package | Failure
"""The result of a job. A Failure has the kind MACHINE where this machine, and not the candidate, is at fault."""


def work(job: Job, cache: str | None) -> Result:
    """Carry out a job in this process. cache: a folder; None for the user's on this machine."""
    try:
        return _kernel(job, Path(cache) if cache is not None else None)
    except Exception as error:
        return storage_failure(error) or Failure(FailureKind.BUILD, f"{type(error).__name__}: {error}")


def checked(result: object) -> Result:
    """A result that came from another machine, held against what a result may be. Raises Untruthful.

    Its objects are code, which nobody can check: who reaches the workers of a cluster decides what runs here.
    """
    if isinstance(result, Failure) and isinstance(result.kind, FailureKind):
        return Failure(result.kind, line(str(result.message)), _digest(result.code))
    if not isinstance(result, Package):
        raise Untruthful(f"{type(result).__name__} in the place of a kernel")
    for item in result.objects:
        if not isinstance(item, Object) or not isinstance(item.content, bytes) or not _KEY.fullmatch(str(item.key)):
            raise Untruthful("an object file without a digest")
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "biufV" for array in result.constants):
        raise Untruthful("a constant that is no array of numbers")
    if not isinstance(result.footprint, Footprint):
        raise Untruthful("a kernel without its size")
    identifier(result.symbol, "a kernel")
    return replace(result, warnings=tuple(line(str(text)) for text in result.warnings), code=_digest(result.code))


def _digest(code: object) -> str:
    if isinstance(code, str) and (not code or _KEY.fullmatch(code)):
        return code
    raise Untruthful(f"{shown(code)} in the place of a digest")


def storage_failure(error: Exception | str) -> Failure | None:
    """The machine's failure that an error, or a text about one, tells of: no room to write, here or in the linker."""
    cause: BaseException | None = error if isinstance(error, Exception) else None
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _STORAGE:
            return Failure(FailureKind.MACHINE, _where(os.strerror(cause.errno)))
        cause = cause.__cause__
    known = next((os.strerror(number) for number in _STORAGE if os.strerror(number) in str(error)), None)
    return None if known is None else Failure(FailureKind.MACHINE, _where(known))


def _where(reason: str) -> str:
    return f"cannot write temporary files in {tempfile.gettempdir()}: {reason}; free some space, or set TMPDIR"


def _kernel(job: Job, cache: Path | None) -> Result:
    request = job.request
    try:
        _adopt(job.families)
    except Exception as error:
        return storage_failure(error) or Failure(
            FailureKind.MACHINE,
            "kernel families and policies of your own cannot be loaded in a compiler process: "
            f"{type(error).__name__}: {error}",
        )
    symbol = symbol_of(request.problem, request.weight, request.target, request.family, request.config)
    try:
        family = find(request.family, request.target.kind)
        code = family.emit(request.problem, request.weight, request.target.core, request.config, symbol)
    except ImportError as error:  # a module that is not on this machine says nothing about the candidate
        return Failure(
            FailureKind.MACHINE,
            f"{request.family} cannot be generated in a compiler process: {type(error).__name__}: {error}; a module "
            "of your own has to be imported at the top of the file that uses it, any other one has to be installed",
        )
    except Exception as error:
        return storage_failure(error) or Failure(
            FailureKind.BUILD, f"cannot be generated: {type(error).__name__}: {error}"
        )
    digest = code_digest(code, symbol)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            objects = build_objects(symbol, code, request.target, Cache(cache))
        except BuildError as error:
            return storage_failure(str(error)) or Failure(FailureKind.BUILD, str(error), digest)
    texts = dict.fromkeys(str(item.message) for item in told if issubclass(item.category, UserWarning))
    size = footprint(code, request.problem, (item.content for item in objects))
    return Package(symbol, objects, code.constants, tuple(texts), digest, size)


_adopted = ""


def _adopt(families: Families) -> None:
    """Most jobs come with the families of the one before."""
    global _adopted
    if families.digest != _adopted:
        _adopted = ""  # what fails half way has withdrawn the ones before
        adopt(families)
        _adopted = families.digest
