"""A whole network for a GPU: its kernels and operators as one list of launches, on one arena of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tesa.build.bare.arena import Plan, plans
from tesa.build.bare.network import Call, Calls, Ref, calls_of
from tesa.build.cache import Cache
from tesa.build.gpu.images import images_of
from tesa.build.gpu.library import Port, Program, Size
from tesa.build.gpu.product import GpuProduct, Image
from tesa.build.gpu.tir import Function, lowered
from tesa.errors import UnsupportedError
from tesa.schedules.gpu.copying import copy
from tesa.schedules.gpus import GpuTir, Launch
from tesa.schedules.types import Problem
from tesa.targets.target import Target

_COPY = "tesa_copy_"

MOST_LAUNCHES = 20_000
"""Of a network: each is a node of the graph, and a row of the tables in the library."""


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


@dataclass(frozen=True)
class Sides:
    """The inputs and outputs of a function of a module."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]


def network_program(
    mod: Any, sizes: Mapping[str, Sides], kernels: Mapping[str, Placed], target: Target, cache: Cache | None = None
) -> Program:
    """The program of a scheduled module. sizes: its functions by name, one for each size; kernels: by the symbols that
    these call. What several sizes read or call is there once. Functions that call each other, as those of a loop do,
    become one list of launches.

    Raises UnsupportedError for a loop of too many launches, and for what only TVM's virtual machine does; BuildError
    where an operator cannot be compiled.
    """
    import tvm

    calls = calls_of(mod, list(sizes), tvm.target.Target(dict(target.tvm), host={"kind": "llvm"}))
    functions, images = _operators(calls, target, cache)
    places: dict[str, Sequence[int]] = {symbol: made.memories for symbol, made in functions.items()}
    places |= {symbol: placed.product.scratch for symbol, placed in kernels.items()}
    planned = plans(calls, places, frozenset())
    modules: list[tuple[Image, ...]] = [images] if images else []
    first: dict[str, int] = {}
    for symbol in sorted(calls.kernels):
        first[symbol] = len(modules)
        modules += kernels[symbol].product.modules
    constants = {f"constant {i}": array for i, array in enumerate(calls.constants)}
    straight = _Straight(planned, kernels, functions, first, target.name)
    one, *others = (
        Size(tuple(sides.inputs), tuple(sides.outputs), straight.launches(name)) for name, sides in sizes.items()
    )
    return Program(
        one.inputs, one.outputs, tuple(modules), one.launches, constants, straight.memories, others=tuple(others)
    )


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
    sizes = (
        function.outputs[call.arguments[1].index].bytes
        for function in calls.functions
        for call in function.calls
        if not call.symbol
    )
    return {f"{_COPY}{size}": size for size in sizes}


@dataclass
class _Straight:
    """Functions of a network as straight lists of launches.

    planned: by the name of a function. first: of the modules of each kernel. memories: bytes and place of each stretch
    of the arena that a launch names; one function runs at a time, so that all of them begin at its beginning.
    """

    planned: Mapping[str, Plan]
    kernels: Mapping[str, Placed]
    functions: Mapping[str, Function]
    first: Mapping[str, int]
    target: str
    memories: dict[str, tuple[int, int]] = field(default_factory=dict)

    def launches(self, name: str) -> tuple[Launch, ...]:
        """Those of all calls, each behind those of the call before. UnsupportedError for too many.

        Inputs and outputs go by their place: a model may call an input like one of its outputs, or like a buffer.
        """
        found: list[Launch] = []
        stage = 0
        for call, given, scratch, plan in self._calls(self.planned[name], {}, 0):
            made = list(self._of_call(call, given, scratch, plan))
            found += (replace(one, stage=stage + one.stage) for one in made)
            stage += max((one.stage for one in made), default=-1) + 1
            if len(found) > MOST_LAUNCHES:
                raise UnsupportedError(
                    f"a loop of the model makes more than {MOST_LAUNCHES:,} launches of kernels on {self.target}; "
                    "compile it for fewer steps, with --shape, or for a CPU"
                )
        return tuple(found)

    def _calls(
        self, plan: Plan, known: Mapping[Ref, str], base: int
    ) -> Iterator[tuple[Call, list[str], list[str], Plan]]:
        """The calls of kernels and operators with the names of their arguments and their memory between kernels, those
        of functions in their places. known: inputs and outputs of the function; base: of its buffers in the arena."""

        def name(ref: Ref) -> str:
            if ref.kind != "buffer":
                return known.get(ref, f"{ref.kind} {ref.index}")
            place = base + plan.offsets[ref.index]
            found = f"arena {place}"
            self.memories[found] = max(plan.function.buffers[ref.index], self.memories.get(found, (0, 0))[0]), place
            return found

        for call in plan.function.calls:
            given = [name(ref) for ref in call.arguments]
            if (inner := self.planned.get(call.symbol)) is None:
                yield call, given, [name(ref) for ref in call.scratch], plan
                continue
            count = len(inner.function.inputs)
            own = {Ref("input", i): one for i, one in enumerate(given[:count])}
            own |= {Ref("output", i): one for i, one in enumerate(given[count:])}
            (room,) = call.scratch
            yield from self._calls(inner, own, base + plan.offsets[room.index])

    def _of_call(self, call: Call, given: Sequence[str], scratch: Sequence[str], plan: Plan) -> Iterator[Launch]:
        if call.symbol in self.kernels:
            placed = self.kernels[call.symbol]
            known = dict(zip(placed.arguments, given, strict=True))
            known |= {f"scratch{i}": place for i, place in enumerate(scratch)}
            for launch in placed.product.launches:
                arguments = tuple(known[argument] for argument in launch.arguments)
                yield replace(launch, arguments=arguments, module=launch.module + self.first[call.symbol])
            return
        size = plan.function.outputs[call.arguments[1].index].bytes if not call.symbol else 0
        for stage, kernel in enumerate(self.functions[call.symbol or f"{_COPY}{size}"].kernels):
            arguments = tuple(given[i] if i >= 0 else scratch[-i - 1] for i in kernel.arguments)
            yield Launch(kernel.entry, kernel.grid, kernel.block, arguments, 0, kernel.shared, stage)
