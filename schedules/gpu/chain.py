"""The pieces of a weight as launches of their own, one after the other, their sum through memory.

Before:
    Y = epilogue((W0 + W1 + W2) X)

After, float32, where each line is the launches of one kernel of any family:
    S0 = W0 X + residual
    S1 = W1 X + S0
    Y = act(W2 X + S1 + bias)       what is read is never what is written
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpus import Gpu, GpuCode, GpuText, GpuTir, Launch
from tesa.schedules.pieces import PieceKernel
from tesa.schedules.registry import find
from tesa.schedules.types import Problem


def problems(problem: Problem, count: int) -> list[Problem]:
    """The problem that the kernel of each piece solves.

    >>> from tesa.schedules.types import Epilogue
    >>> p = Problem("linear", 2, 2, 4, (2, 4), (2, 4), epilogue=Epilogue(bias=True, activation="relu"))
    >>> a, b = problems(p, 2)
    >>> (a.epilogue.residual, a.epilogue.bias), (b.epilogue.residual, b.epilogue.bias, b.epilogue.activation)
    ((False, False), (True, True, 'relu'))
    """
    e, last = problem.epilogue, count - 1
    given = [
        replace(
            e, bias=e.bias and i == last, residual=e.residual or i > 0, activation=e.activation if i == last else None
        )
        for i in range(count)
    ]
    return [replace(problem, epilogue=epilogue) for epilogue in given]


def emit(problem: Problem, made: Sequence[PieceKernel], gpu: Gpu, symbol: str) -> GpuCode:
    """The kernels of all pieces as one. ValueError where the family of one does not apply."""
    parts = [
        find(one.family, "gpu").emit(sub, one.piece.weight, gpu, one.config, f"{symbol}_{i}")
        for i, (one, sub) in enumerate(zip(made, problems(problem, len(made)), strict=True))
    ]
    return joined(parts, 4 * int(np.prod(problem.y_shape)))


def joined(parts: Sequence[GpuCode], size: int) -> GpuCode:
    """Kernels one after the other, each of which adds to what the one before has written. size: of Y, in bytes."""
    last, sums = len(parts) - 1, min(2, len(parts) - 1)
    modules: list[GpuText | GpuTir] = []
    launches: list[Launch] = []
    constants: list[NDArray[Any]] = []
    scratch = [size] * sums
    stage = 0
    for i, code in enumerate(parts):
        places = {f"constant{c}": f"constant{len(constants) + c}" for c in range(len(code.constants))}
        places |= {f"scratch{c}": f"scratch{len(scratch) + c}" for c in range(len(code.scratch))}
        if i > 0:
            places["residual"] = f"scratch{(i - 1) % 2}"
        if i < last:
            places["y"] = f"scratch{i % 2}"
        launches += [_placed(one, places, len(modules), stage) for one in code.launches]
        modules += code.modules
        constants += code.constants
        scratch += code.scratch
        stage = 1 + max(one.stage for one in launches)
    work = tuple(one for code in parts for one in code.work)
    notes = tuple(dict.fromkeys(note for code in parts for note in code.notes))
    return GpuCode(tuple(modules), tuple(launches), tuple(constants), tuple(scratch), work, notes=notes)


def _placed(launch: Launch, places: Mapping[str, str], module: int, stage: int) -> Launch:
    arguments = tuple(places.get(name, name) for name in launch.arguments)
    return replace(launch, arguments=arguments, module=launch.module + module, stage=launch.stage + stage)
