"""A whole network for a GPU: its kernels and operators as one list of launches, on one arena of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tesa.build.bare.arena import Plan, plans
from tesa.build.bare.network import Call, Calls, Ref, calls_of
from tesa.build.cache import Cache
from tesa.build.gpu.images import images_of
from tesa.build.gpu.library import Port, Program
from tesa.build.gpu.product import GpuProduct, Image
from tesa.build.gpu.tir import Function, lowered
from tesa.errors import UnsupportedError
from tesa.schedules.gpu.copying import copy
from tesa.schedules.gpus import GpuTir, Launch
from tesa.schedules.types import Problem
from tesa.targets.target import Target

_COPY = "tesa_copy_"


@dataclass(frozen=True)
class Placed:
    """A kernel of a layer in a network: what was built, and the problem that says what it is called with."""

    product: GpuProduct
    problem: Problem

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of what the module calls it with, in order."""
        e = self.problem.epilogue
        wanted = {"scale": e.scale, "bias": e.bias, "residual": e.residual}
        constants = (f"constant{i}" for i in range(len(self.product.constants)))
        return ("x", *constants, *(name for name, there in wanted.items() if there), "y")


def network_program(
    mod: Any, name: str, kernels: Mapping[str, Placed], inputs: Sequence[Port], outputs: Sequence[Port],
    target: Target, cache: Cache | None = None,
) -> Program:  # fmt: skip
    """The program of a scheduled module's function. kernels: by the symbols that the module calls.

    Raises UnsupportedError for a network that calls functions of its own, as those with loops do, and for what only
    TVM's virtual machine does; BuildError where an operator cannot be compiled.
    """
    import tvm

    calls = calls_of(mod, [name], tvm.target.Target(dict(target.tvm), host={"kind": "llvm"}))
    if len(calls.functions) > 1:
        raise UnsupportedError(
            f"the model calls functions of its own, as a loop does: {target.name} runs straight ones"
        )
    functions, images = _operators(calls, target, cache)
    places: dict[str, Sequence[int]] = {symbol: made.memories for symbol, made in functions.items()}
    places |= {symbol: placed.product.scratch for symbol, placed in kernels.items()}
    (plan,) = plans(calls, places, frozenset()).values()
    modules: list[tuple[Image, ...]] = [images] if images else []
    first: dict[str, int] = {}
    for symbol in sorted(calls.kernels):
        first[symbol] = len(modules)
        modules += kernels[symbol].product.modules
    launches = tuple(_launches(plan, kernels, functions, first, inputs, outputs))
    constants = {f"constant {i}": array for i, array in enumerate(calls.constants)}
    sizes = plan.function.buffers
    memories = {f"buffer {i}": (size, plan.offsets[i]) for i, size in enumerate(sizes)}
    return Program(tuple(inputs), tuple(outputs), tuple(modules), launches, constants, memories)


def _operators(calls: Calls, target: Target, cache: Cache | None) -> tuple[dict[str, Function], tuple[Image, ...]]:
    """The kernels of all operators, and of copies, compiled as one module."""
    named = [(name, function) for name, function in calls.operators.items()]
    named += [(name, copy(name, size)) for name, size in _copies(calls).items()]
    if not named:
        return {}, ()
    text, functions = lowered(GpuTir("operators", tuple(named)), target)
    return functions, images_of(text, target, cache)


def _copies(calls: Calls) -> dict[str, int]:
    """The functions that copy, by name, and their bytes."""
    (function,) = calls.functions
    sizes = (function.outputs[call.arguments[1].index].bytes for call in function.calls if not call.symbol)
    return {f"{_COPY}{size}": size for size in sizes}


def _launches(
    plan: Plan, kernels: Mapping[str, Placed], functions: Mapping[str, Function], first: Mapping[str, int],
    inputs: Sequence[Port], outputs: Sequence[Port],
) -> Iterator[Launch]:  # fmt: skip
    """The launches of all calls, those of one call behind those of the call before."""
    stage = 0

    def name(ref: Ref) -> str:
        ports = {"input": inputs, "output": outputs}.get(ref.kind)
        return ports[ref.index].name if ports is not None else f"{ref.kind} {ref.index}"

    for call in plan.function.calls:
        given = [name(ref) for ref in call.arguments]
        scratch = [name(ref) for ref in call.scratch]
        made = list(_of_call(call, given, scratch, kernels, functions, first, plan))
        yield from (replace(one, stage=stage + one.stage) for one in made)
        stage += max((one.stage for one in made), default=-1) + 1


def _of_call(
    call: Call, given: Sequence[str], scratch: Sequence[str], kernels: Mapping[str, Placed],
    functions: Mapping[str, Function], first: Mapping[str, int], plan: Plan,
) -> Iterator[Launch]:  # fmt: skip
    if call.symbol in kernels:
        placed = kernels[call.symbol]
        known = dict(zip(placed.arguments, given, strict=True))
        known |= {f"scratch{i}": place for i, place in enumerate(scratch)}
        for launch in placed.product.launches:
            arguments = tuple(known[argument] for argument in launch.arguments)
            yield replace(launch, arguments=arguments, module=launch.module + first[call.symbol])
        return
    size = plan.function.outputs[call.arguments[1].index].bytes if not call.symbol else 0
    for stage, kernel in enumerate(functions[call.symbol or f"{_COPY}{size}"].kernels):
        arguments = tuple(given[i] if i >= 0 else scratch[-i - 1] for i in kernel.arguments)
        yield Launch(kernel.entry, kernel.grid, kernel.block, arguments, 0, kernel.shared, stage)
