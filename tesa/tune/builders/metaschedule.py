"""tesa's compiler processes behind TVM's MetaSchedule builder interface, for its tuner and its runners.

TVM's own LocalBuilder starts new processes for every build, and each of them first imports all tensor intrinsics, which
takes half a minute. Here the processes live on, and code is compiled by the pipelines that tesa compiles it with.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from tesa.build.compile import PIPELINES
from tesa.errors import UsageError
from tesa.measure.timing import Failure
from tesa.schedules.types import Assembly, Code
from tesa.tune.builders.local import Order
from tesa.tune.builders.work import ModuleJob, Package

_OBJECT, _PIPELINE = "tesa.object", "tesa.pipeline"
_TARGET_KEYS = ("kind", "mtriple", "mcpu", "mattr", "mabi", "mfloat-abi", "opt-level", "num-cores")


class Compilers(Protocol):
    """LocalBuilder or ClusterBuilder."""

    def results(self, orders: Sequence[Order], ranking: Sequence[int]) -> Iterator[tuple[int, Package | Failure]]:
        """What each order came to, in any order."""
        ...


def as_module(code: Code, symbol: str = "main") -> Any:
    """A tvm.IRModule of generated code, whose functions remember their object file and pipeline.

    symbol: the name that code was generated with; MetaSchedule's runners call "main".
    """
    import tvm

    functions = {}
    for number, unit in enumerate(code.units(symbol)):
        if isinstance(unit, Assembly):
            raise UsageError(f"{unit.name} is assembly, and a module of TVM holds functions only; take another family")
        for name, function in unit.functions:
            marked = function.with_attr("global_symbol", name).with_attr(_OBJECT, number)
            marked = marked.with_attr(_PIPELINE, unit.pipeline)
            functions[tvm.ir.GlobalVar(name)] = marked
    return tvm.IRModule(functions)


def as_metaschedule(compilers: Compilers, folder: Path | None = None) -> Any:
    """A tvm.s_tir.meta_schedule PyBuilder whose build(inputs) compiles with the processes of a LocalBuilder or
    ClusterBuilder, which the caller closes.

    An artifact is a .tar of object files in folder, by default a temporary one that lasts as long as this process;
    runners link it where it runs. Functions of as_module are compiled as `tesa compile` does, each group apart; any
    others by TVM's default pipeline. A module that cannot be compiled has an error_msg, and harms no other.
    """
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder

    place = None if folder is not None else tempfile.TemporaryDirectory(prefix="tesa-")
    home = Path(place.name) if place is not None else Path(str(folder))

    class TesaBuilder(PyBuilder):  # type: ignore[misc]
        """build() of the interface."""

        def __init__(self) -> None:
            super().__init__()
            self.place, self.count = place, 0  # the folder goes when nobody has the builder any more

        def build(self, build_inputs: Any) -> list[Any]:
            """A BuilderResult for each BuilderInput, in their order."""
            inputs = list(build_inputs)
            rows: list[Any] = [BuilderResult(None, "no compiler process gave a result") for _ in inputs]
            orders = [Order(_job(item)) for item in inputs]
            for index, result in compilers.results(orders, range(len(orders))):
                if isinstance(result, Failure):
                    rows[index] = BuilderResult(None, f"{result.kind}: {result.message}")
                    continue
                self.count += 1
                path = home / f"module{self.count}.tar"
                _write(path, result)
                rows[index] = BuilderResult(str(path), None)
            return rows

    return derived_object(TesaBuilder)()


def _job(item: Any) -> ModuleJob:
    import tvm

    groups: dict[tuple[int, str], list[str]] = {}
    for var, function in item.mod.functions.items():
        attrs = function.attrs
        number = int(attrs[_OBJECT]) if attrs and _OBJECT in attrs else -1
        name = str(attrs[_PIPELINE]) if attrs and _PIPELINE in attrs else "default"
        if name not in PIPELINES:
            raise UsageError(f"function {var.name_hint}: unknown pipeline {name!r}; there are {', '.join(PIPELINES)}")
        groups.setdefault((number, name), []).append(str(var.name_hint))
    ordered = tuple((pipeline, tuple(names)) for (_, pipeline), names in sorted(groups.items()))
    return ModuleJob(tvm.ir.save_json(item.mod), _target(item.target), ordered)


def _target(target: Any) -> str:
    """The target's own facts as JSON, without what TVM deduces from them."""
    known = dict(target.export())
    return json.dumps({key: _plain(known[key]) for key in _TARGET_KEYS if key in known}, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool):
        return value
    return [_plain(item) for item in value]


def _write(path: Path, package: Package) -> None:
    """A .tar as TVM's loaders take it, the same bytes for the same objects."""
    with tarfile.open(path, "w") as archive:
        for item in package.objects:
            entry = tarfile.TarInfo(item.name)
            entry.size = len(item.content)
            archive.addfile(entry, BytesIO(item.content))
