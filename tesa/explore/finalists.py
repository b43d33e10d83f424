"""Measures whole models: compiled for the target and timed where it runs, here, on a device, in Node.js."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tesa.compiler import compile_model
from tesa.measure.runners import lacking
from tesa.runtime import bench, load
from tesa.runtime.remote import RemoteModel
from tesa.targets.target import Target

ROUNDS = 30


@dataclass(frozen=True)
class Place:
    """The machine that measures models. The fields are the arguments of tesa.compile. measure: kernels too, one by one;
    else they are chosen by the cost table, and only the whole is timed."""

    target: Target
    threads: int = 1
    log: Any = None
    rpc: str | None = None
    key: str | None = None
    cluster: str | None = None
    jobs: int | None = None
    shapes: Mapping[str, Any] | None = None
    measure: bool = False

    @property
    def lacking(self) -> str:
        """The reason why nothing can be timed; "" where it can."""
        return "" if self.rpc is not None else lacking(self.target)

    def time(self, model: Any) -> float:
        """The least milliseconds of a run of a ModelProto. Errors as tesa.compile and tesa.load."""
        suffix = ".wasm" if self.target.portable else ".so"
        with TemporaryDirectory(prefix="tesa-") as folder:
            path = Path(folder) / f"model{suffix}"
            compile_model(
                model, output=path, target=self.target, threads=self.threads, log=self.log, rpc=self.rpc, key=self.key,
                cluster=self.cluster, jobs=self.jobs, shapes=self.shapes, measure=self.measure,
            )  # fmt: skip
            loaded = load(path, rpc=self.rpc, key=self.key)
            try:
                return bench(loaded, repeat=ROUNDS).model.min_ms
            finally:
                if isinstance(loaded, RemoteModel):
                    loaded.close()
