"""The list of kernel families. A family is a file that registers three functions about one way to write a kernel.

Example:
    >>> @family("nothing", kind="cpu", space=lambda p, w, core: [], estimate=lambda p, w, core, c: 0.0)
    ... def emit(problem, weight, core, config, symbol):
    ...     '''Applies to nothing.'''
    >>> find("nothing").summary
    'Applies to nothing.'
    >>> forget("nothing")
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tesa.schedules.refusal import refuse
from tesa.schedules.types import Config, FloatArray, Problem

# The machine is a Core and what is emitted a Code for kind "cpu"; a Gpu and a GpuCode (gpus.py) for kind "gpu".
Space = Callable[[Problem, FloatArray, Any], Sequence[Config]]
Estimate = Callable[[Problem, FloatArray, Any, Config], float]
Emit = Callable[[Problem, FloatArray, Any, Config, str], Any]
Size = Callable[[Problem, FloatArray, Any, Config], int]
Dense = Callable[[FloatArray, Config], bool]
Refusal = Callable[[Problem, FloatArray, Any], str]


@dataclass(frozen=True)
class Family:
    """One way to write a kernel, for one kind of machine: its configurations, an estimate of each, and its code.

    kind: of machine, "cpu" or "gpu"; core: what the family may ask of it, by capability and not by name: a Core of
    types.py, whose kernels are Code, or a Gpu of gpus.py, whose kernels are GpuCode.
    space(problem, weight, core): the configurations worth trying, the untuned default first; empty where the family
    does not apply. estimate(problem, weight, core, config): expected time in ms on a nominal core of this instruction
    set, used when nothing may be measured. emit(problem, weight, core, config, symbol): the code, whose main is called
    symbol. size(problem, weight, core, config): what its straight-line code costs to compile, in instructions of some
    10 us to assemble; None for families of loops. dense(weight, config): whether it computes with the zeros of the
    weight, which is what sparsity is measured against; None for never. quantizes: its float32 kernels too know a scale
    and a quantized output. layouts: of Problem that it knows; for others its space is empty. block_of_k: the entry of
    its configurations that says how many columns of the weight it takes at a time, row by row, so that rows with
    equally many non-zeros there are not filled up; "" for none. refusal(problem, weight, core): the reason why it has
    no configuration, "" where it has some; None for families that tell none. weight is the float32 (m, k) matrix, zeros
    included.
    """

    name: str
    kind: str
    summary: str
    space: Space
    estimate: Estimate
    emit: Emit
    size: Size | None = None
    dense: Dense | None = None
    quantizes: bool = False
    layouts: tuple[str, ...] = ("features_first",)
    block_of_k: str = ""
    refusal: Refusal | None = None


_FAMILIES: dict[tuple[str, str], Family] = {}


def family(
    name: str,
    *,
    kind: str,
    space: Space,
    estimate: Estimate,
    size: Size | None = None,
    dense: Dense | None = None,
    quantizes: bool = False,
    layouts: tuple[str, ...] = ("features_first",),
    block_of_k: str = "",
    refusal: Refusal | None = None,
) -> Callable[[Emit], Emit]:
    """Register the decorated function as the emit of a kernel family; its docstring's first line is the summary."""

    def register(emit: Emit) -> Emit:
        summary = (emit.__doc__ or "").strip().splitlines()
        first = summary[0] if summary else ""
        add(Family(name, kind, first, space, estimate, emit, size, dense, quantizes, layouts, block_of_k, refusal))
        return emit

    return register


def add(made: Family) -> None:
    """Register a family. ValueError if one of its kind has the name."""
    if (made.kind, made.name) in _FAMILIES:
        raise ValueError(f"kernel family {made.name!r} is registered twice")
    install(made)


def install(made: Family) -> None:
    """Register a family, in place of one of its kind that has the name."""
    _FAMILIES[made.kind, made.name] = replace(made, space=_known_layouts(made))


def _known_layouts(made: Family) -> Space:
    """The space of a family, empty for layouts that it does not know: so no family has to ask for them."""

    def space(problem: Problem, weight: FloatArray, core: Any) -> Sequence[Config]:
        if problem.layout not in made.layouts:
            return refuse(f"it computes layout {' and '.join(made.layouts)}, and this one is {problem.layout}")
        return made.space(problem, weight, core)

    return space


def families(kind: str | None = None) -> tuple[Family, ...]:
    """Every family for a kind of machine ("cpu"), or for all of them, in the order of registration."""
    return tuple(made for made in _FAMILIES.values() if kind in (None, made.kind))


def find(name: str, kind: str = "cpu") -> Family:
    """The family of that name. KeyError with the known names if there is none."""
    if (kind, name) not in _FAMILIES:
        raise KeyError(f"no kernel family {name!r}; there are {', '.join(made.name for made in families(kind))}")
    return _FAMILIES[kind, name]


def forget(name: str, kind: str = "cpu") -> None:
    """Take a family out again, for notebooks that define one over and over. KeyError as find."""
    find(name, kind)
    del _FAMILIES[kind, name]


def __getattr__(name: str) -> object:
    """The names of tesa 0.1, which users' files may still have: `schedule` and `schedules` with an arch."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new, function = _RENAMED[name]
    warnings.warn(f"tesa.schedules.registry.{name} is now {new}; arch is now kind", DeprecationWarning, stacklevel=2)
    return function


_KINDS = {"x86": "cpu"}  # by what tesa 0.1 called an arch
_RENAMED: dict[str, tuple[str, Callable[..., Any]]] = {
    "schedule": (
        "family(name, kind=...)",
        lambda name, *, arch="x86", **functions: family(name, kind=_KINDS.get(arch, arch), **functions),
    ),
    "schedules": ("families(kind)", lambda arch="x86": families(_KINDS.get(arch, arch))),
}
