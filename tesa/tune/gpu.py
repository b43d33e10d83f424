"""The kernel of a layer for a GPU, by what the log knows and by measuring where there is a driver."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tesa.build.cache import Cache
from tesa.build.digest import code_digest
from tesa.build.gpu.product import GpuProduct
from tesa.build.objects import BuildError
from tesa.choose.gpu import GpuKernel, choose_gpu
from tesa.decompose.candidates import Option
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.gpu.driver import missing
from tesa.measure.interfaces import Runner
from tesa.measure.local import BUDGET_MS
from tesa.measure.runners import check_device, runner_for
from tesa.records.emitted import EmittedByFamilies
from tesa.records.locations import open_log
from tesa.records.log import Log, Task
from tesa.schedules.gpus import GpuCode
from tesa.schedules.types import config_key
from tesa.targets.target import Target
from tesa.tune.builders.gpu import library_of
from tesa.tune.recorder import Recorder


@dataclass(frozen=True)
class GpuBench:
    """The log for a target, and what measures: a runner and what writes its results down, None where nothing does."""

    target: Target
    log: Log
    runner: Runner | None = None
    recorder: Recorder | None = None

    @staticmethod
    def of(target: Target, log: str | Path | Log | None, measure: bool) -> GpuBench:
        """The bench for a target. measure: on device 0, where its driver is found.

        Raises UsageError for a device that cannot run code for the target.
        """
        runner = runner_for(target) if measure and not missing(target) else None
        device = {} if runner is None else runner.device()
        known = log if isinstance(log, Log) else open_log(log, str(device["cpu"]) if device else None)
        if runner is None:
            return GpuBench(target, known)
        check_device(device, target, named=True)
        return GpuBench(target, known, runner, Recorder(known, target, device))

    def choose(
        self,
        layer: Layer,
        *,
        families: Sequence[str] | None = None,
        options: Sequence[Option] | None = None,
        cache: Cache | None = None,
        jobs: int | None = None,
    ) -> GpuKernel:
        """The kernel of a layer; what is measured for that is in the log. Errors as of choose_gpu."""
        task = Task.of(layer.problem, layer.weight)
        emitted = EmittedByFamilies(layer.problem, layer.weight, self.target, layer.digest)
        cpus = None if self.recorder is None else [str(self.recorder.device["cpu"])]
        known = self.log.records(task, self.target.name, cpus, emitted)
        if cpus is not None:  # times of another GPU do not compare with those that are measured now
            known = tuple(record for record in known if record.cpu in cpus)

        def measure(_: Layer, option: Option, code: GpuCode, product: GpuProduct) -> float:
            return self._measured(layer, task, option, code, product)

        return choose_gpu(
            layer, self.target, families=families, options=options, known=known, cache=cache, jobs=jobs,
            measure=None if self.runner is None or (options is not None and len(options) == 1) else measure,
        )  # fmt: skip

    def _measured(self, layer: Layer, task: Task, option: Option, code: GpuCode, product: GpuProduct) -> float:
        assert self.runner is not None
        assert self.recorder is not None
        digest = code_digest(code, product.symbol)
        with tempfile.TemporaryDirectory(prefix="tesa-") as folder:
            made = library_of(layer.problem, product, self.target, Path(folder) / "candidate.so", digest)
            (result,) = self.runner.run(layer.problem, layer.weight, [made], budget_ms=BUDGET_MS)
        self.recorder.enter(task, [(option, result)], {config_key(*option): digest})
        if isinstance(result, Failure):
            raise BuildError(str(result))
        return result.median_ms
