"""One piece of work for a compiler process, and what it does there: emit a kernel, and compile all its objects.

Runs in a child, here or on a machine of the cluster, so that an endless or crashing compiler costs one candidate. The
objects go through the cache and the keys of tesa.build.objects: what was built here, `tesa compile` finds built.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.build.cache import Cache
from tesa.build.compile import compile_functions
from tesa.build.digest import code_digest
from tesa.build.objects import BuildFailure, build_objects, symbol_of
from tesa.measure.interfaces import BuildRequest
from tesa.measure.timing import Failure
from tesa.schedules.registry import find
from tesa.schedules.types import FloatArray
from tesa.tune.builders.families import Families, adopt

GRACE_S = 20.0
"""A child whose parent does not end it in time ends by itself this much later."""

_LOOK_S = 0.5  # between two looks at whether the parent lives
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class KernelJob:
    """A candidate. Its weight (m, k) travels apart, once for all candidates of a layer: here it is empty."""

    request: BuildRequest
    families: Families

    @staticmethod
    def of(request: BuildRequest, families: Families) -> KernelJob:
        """The job without the weight."""
        return KernelJob(replace(request, weight=np.zeros((0, 0), np.float32)), families)


@dataclass(frozen=True)
class ModuleJob:
    """A TIR module to compile. groups: for each object file the pipeline, and its functions' names.

    text is of tvm.ir.save_json; target is TVM's, as JSON.
    """

    text: str
    target: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Object:
    """An object file: name for a folder, key for the cache ("" if it has none)."""

    name: str
    key: str
    content: bytes


@dataclass(frozen=True)
class Package:
    """What a job came to. warnings: what the child would have told the user; code: digest of what was emitted."""

    symbol: str
    objects: tuple[Object, ...]
    constants: tuple[NDArray[Any], ...] = ()
    warnings: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Trouble:
    """Why the machine, and not the candidate, is at fault: nothing about the kernel follows from it."""

    message: str


Job = KernelJob | ModuleJob
Result = Package | Failure | Trouble


def work(job: Job, weight: FloatArray | None, cache: str | None, limit_s: float, parent: int) -> Result:
    """Carry out a job in this process, a child of the process number parent that waits at most limit_s seconds.

    cache: a folder; None for the user's on this machine. Ends this process where the parent is gone or does not end it.
    """
    _end_with(parent)
    signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)  # the kernel ends a compiler that Python cannot interrupt
    try:
        if isinstance(job, ModuleJob):
            return _module(job)
        if weight is None:
            raise ValueError("a kernel's job came without its weight")
        return _kernel(job, weight, cache)
    except Exception as error:
        return trouble(error) or Failure("build", f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def trouble(error: Exception | str) -> Trouble | None:
    """The Trouble that an error, or a text about one, tells of: no room to write, here or in the linker's output."""
    cause: BaseException | None = error if isinstance(error, Exception) else None
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _STORAGE:
            return Trouble(_where(os.strerror(cause.errno)))
        cause = cause.__cause__
    known = next((os.strerror(number) for number in _STORAGE if os.strerror(number) in str(error)), None)
    return None if known is None else Trouble(_where(known))


def _where(reason: str) -> str:
    return f"cannot write temporary files in {tempfile.gettempdir()}: {reason}; free some space, or set TMPDIR"


def _kernel(job: KernelJob, weight: FloatArray, folder: str | None) -> Result:
    request = replace(job.request, weight=weight)
    try:
        _adopt(job.families)
    except Exception as error:
        return trouble(error) or Trouble(
            "kernel families and policies of your own cannot be loaded in a compiler process: "
            f"{type(error).__name__}: {error}"
        )
    symbol = symbol_of(request.problem, weight, request.target, request.family, request.config)
    try:
        family = find(request.family)
        code = family.emit(request.problem, weight, request.target.core, request.config, symbol)
    except ImportError as error:  # a module that is not on this machine says nothing about the candidate
        return Trouble(
            f"{request.family} cannot be generated in a compiler process: {type(error).__name__}: {error}; a module "
            "of your own has to be imported at the top of the file that uses it, any other one has to be installed"
        )
    except Exception as error:
        return trouble(error) or Failure("build", f"cannot be generated: {type(error).__name__}: {error}")
    digest = code_digest(code, symbol)
    kept = _Kept(Path(folder) if folder is not None else None)
    with tempfile.TemporaryDirectory(prefix="tesa-") as place, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (files,) = build_objects([(symbol, code)], request.target, jobs=1, cache=kept, folder=Path(place))
        if isinstance(files, BuildFailure):
            return trouble(files.message) or Failure("build", files.message, digest)
        objects = tuple(Object(path.name, kept.key(path.stem), path.read_bytes()) for path in files)
    texts = dict.fromkeys(str(item.message) for item in told if issubclass(item.category, UserWarning))
    return Package(symbol, objects, code.constants, tuple(texts), digest)


def _module(job: ModuleJob) -> Result:
    import tvm
    import tvm.s_tir.transform

    mod = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(tvm.ir.load_json(job.text))
    functions = {var.name_hint: function for var, function in mod.functions.items()}
    objects = []
    with tempfile.TemporaryDirectory(prefix="tesa-") as place:
        for number, (pipeline, names) in enumerate(job.groups):
            path = Path(place) / f"{number}.o"
            library = compile_functions({name: functions[name] for name in names}, json.loads(job.target), pipeline)
            library.write_to_file(str(path), "o")
            objects.append(Object(f"code{number}.o", "", path.read_bytes()))
    return Package(job.groups[0][1][0], tuple(objects))


class _Kept(Cache):
    """A cache that remembers the keys it was asked for, and is tidied up by the process that owns the children."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder)
        self._keys: list[str] = []

    def key(self, start: str) -> str:
        """The key that begins like that."""
        return next(key for key in self._keys if key.startswith(start))

    def get(self, key: str) -> bytes | None:
        self._keys.append(key)
        return super().get(key)

    def trim(self) -> None:
        """Looking through the whole folder after every candidate would take longer than many a candidate."""


_adopted = ""


def _adopt(families: Families) -> None:
    """Most jobs come with the families of the one before."""
    global _adopted
    if families.digest != _adopted:
        adopt(families)
        _adopted = families.digest


@once
def _end_with(parent: int) -> None:
    """End this process as soon as the parent is gone, whatever it computes at that time.

    Between two jobs the closed pipe ends it. In the middle of one only this does.
    """

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()
