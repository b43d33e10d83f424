"""The list of kernel families. A family is a file that registers three functions about one way to write a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tesa.schedules.types import Code, Config, FloatArray, Isa, Problem

Space = Callable[[Problem, FloatArray, Isa], Sequence[Config]]
Estimate = Callable[[Problem, FloatArray, Isa, Config], float]
Emit = Callable[[Problem, FloatArray, Isa, Config, str], Code]
Size = Callable[[Problem, FloatArray, Config], int]
Dense = Callable[[FloatArray, Config], bool]


@dataclass(frozen=True)
class Schedule:
    """A kernel family.

    space(problem, weight, isa): the configurations worth trying, the untuned default first; empty where the family
    does not apply. estimate(problem, weight, isa, config): expected time in ms on a nominal core of this instruction
    set, used when nothing may be measured. emit(problem, weight, isa, config, symbol): the code; main is called symbol.
    size(problem, weight, config): instructions of straight-line code, each 0.6 to 1.2 ms to compile; None for families
    of loops. dense(weight, config): whether it computes with the zeros of the weight, which is what sparsity is
    measured against; None for never. weight is the float32 (m, k) matrix, zeros included.
    """

    name: str
    arch: str
    summary: str
    space: Space
    estimate: Estimate
    emit: Emit
    size: Size | None = None
    dense: Dense | None = None


_SCHEDULES: dict[str, Schedule] = {}


def schedule(
    name: str, *, arch: str, space: Space, estimate: Estimate, size: Size | None = None, dense: Dense | None = None
) -> Callable[[Emit], Emit]:
    """Register the decorated function as the emit of a kernel family; its docstring's first line is the summary."""

    def register(emit: Emit) -> Emit:
        if name in _SCHEDULES:
            raise ValueError(f"schedule {name!r} is registered twice")
        summary = (emit.__doc__ or "").strip().splitlines()[0]
        _SCHEDULES[name] = Schedule(name, arch, summary, space, estimate, emit, size, dense)
        return emit

    return register


def schedules(arch: str) -> tuple[Schedule, ...]:
    """Every family for an architecture ("x86"), in the order of registration."""
    return tuple(s for s in _SCHEDULES.values() if s.arch == arch)


def find(name: str) -> Schedule:
    """The family of that name. KeyError with the known names if there is none."""
    if name not in _SCHEDULES:
        raise KeyError(f"no schedule {name!r}; there are {', '.join(_SCHEDULES)}")
    return _SCHEDULES[name]


def forget(name: str) -> None:
    """Take a family out again, for notebooks that define one over and over. KeyError as find.

    >>> @schedule("none", arch="x86", space=lambda p, w, isa: [], estimate=lambda p, w, isa, c: 0.0)
    ... def none(problem, weight, isa, config, symbol):
    ...     '''Applies to nothing.'''
    >>> forget("none")
    >>> "none" in [family.name for family in schedules("x86")]
    False
    """
    find(name)
    del _SCHEDULES[name]
