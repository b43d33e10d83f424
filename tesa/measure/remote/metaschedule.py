"""tesa's runners as a runner of TVM's MetaSchedule, for those who tune families of their own with it.

MetaSchedule's runners fill every argument with random numbers, which an array of indices must not have, compare
nothing, and wait for ever for a device that does not come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError
from tesa.measure.reference import Reference
from tesa.measure.remote.local import LocalRunner
from tesa.measure.remote.orders import Workload
from tesa.measure.remote.runner import RpcRunner
from tesa.measure.timing import Failure, Timing

Shape = tuple[str, tuple[int, ...]]
"""Element type and sizes of an argument."""

Arguments = Callable[[Sequence[Shape]], Sequence[NDArray[Any]]]
Expected = Callable[[Sequence[NDArray[Any]]], Reference]


def as_metaschedule(
    runner: LocalRunner | RpcRunner,
    *,
    arguments: Arguments | None = None,
    expected: Expected | None = None,
    budget_ms: float = 80.0,
) -> Any:
    """A PyRunner that measures MetaSchedule's artifacts, with "main" as the function, through a runner of tesa.

    arguments: the arrays for all arguments but the last, which is the result; by default random numbers, which only
    floating-point arguments may have. expected: the right result for these arrays; a candidate with another one fails.
    The error of a candidate is "kind: message" of its Failure.
    """
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerResult

    @derived_object
    class Later(PyRunnerFuture):  # type: ignore[misc]
        """One candidate of a batch."""

        def __init__(self, batch: Future[list[Timing | Failure]], index: int) -> None:
            super().__init__()
            self.batch, self.index = batch, index

        def done(self) -> bool:
            """Whether the batch is measured."""
            return self.batch.done()

        def result(self) -> Any:
            """Seconds, or why there are none."""
            try:
                found = self.batch.result()[self.index]
            except Exception as error:  # MetaSchedule goes on with the next batch
                return RunnerResult(None, f"device: {error}")
            if isinstance(found, Failure):
                return RunnerResult(None, f"{found.kind}: {found.message}")
            return RunnerResult([found.median_ms / 1e3], None)

    @derived_object
    class Tesa(PyRunner):  # type: ignore[misc]
        """Hands each batch to the runner, in a thread."""

        def __init__(self) -> None:
            super().__init__()
            self.thread = ThreadPoolExecutor(1)

        def run(self, runner_inputs: list[Any]) -> list[Any]:
            """A future for each input."""
            batches: dict[tuple[Shape, ...], list[int]] = {}
            for index, item in enumerate(runner_inputs):
                shapes = tuple((str(info.dtype), tuple(int(size) for size in info.shape)) for info in item.args_info)
                batches.setdefault(shapes, []).append(index)
            futures: dict[int, Any] = {}
            for shapes, members in batches.items():
                paths = [Path(str(runner_inputs[index].artifact_path)) for index in members]
                batch = self.thread.submit(_measure, runner, shapes, paths, arguments, expected, budget_ms)
                futures.update({index: Later(batch, place) for place, index in enumerate(members)})
            return [futures[index] for index in range(len(runner_inputs))]

    return Tesa()


def _measure(
    runner: LocalRunner | RpcRunner,
    shapes: Sequence[Shape],
    paths: Sequence[Path],
    arguments: Arguments | None,
    expected: Expected | None,
    budget_ms: float,
) -> list[Timing | Failure]:
    arrays = list((arguments or _random)(shapes[:-1]))
    for (dtype, shape), array in zip(shapes, arrays, strict=False):
        if (str(array.dtype), array.shape) != (dtype, shape):
            raise UsageError(f"an argument is {dtype} {shape}, and arguments() gave {array.dtype} {array.shape}")
    if not arrays or len(arrays) != len(shapes) - 1:
        raise UsageError(f"{len(shapes)} arguments, the last of them the result; arguments() gave {len(arrays)} arrays")
    dtype, shape = shapes[-1]
    wanted = None if expected is None else expected(arrays)
    return runner.measure(Workload(arrays[0], tuple(arrays[1:]), shape, dtype, wanted), paths, budget_ms=budget_ms)


def _random(shapes: Sequence[Shape]) -> list[NDArray[Any]]:
    rng = np.random.default_rng(0)
    whole = [dtype for dtype, _ in shapes if not dtype.startswith("float")]
    if whole:
        raise UsageError(
            f"an argument is {whole[0]}: random numbers may be read as indices that are out of bounds; "
            "give as_metaschedule the arguments"
        )
    return [rng.standard_normal(shape).astype(dtype) for dtype, shape in shapes]
