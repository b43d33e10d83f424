"""TVM's schedule as the rules use it: quick to make, to copy and to ask, and read once for all rules."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import tvm
from tvm import s_tir

from tesa.schedules.cpu.operators.stages import Stage, inline_cheap, read_stages

_make = tvm.get_global_func("s_tir.schedule.TracedSchedule")
_NO_SEED, _NO_CHECKS, _SHORT_ERRORS = -1, 0, 2


class Schedule(s_tir.Schedule):  # type: ignore[misc]  # TVM has no types
    """A schedule of one function, main.

    TVM's own methods look at the types of all arguments at each call, which takes more time than what they do, and
    print the whole function into errors that a rule only catches. ScheduleError is raised here as well.
    """

    def __init__(self, func: Any) -> None:
        mod = tvm.IRModule({"main": func})
        self.__init_handle_by_constructor__(_make, mod, _NO_SEED, _NO_CHECKS, _SHORT_ERRORS, True)

    def copy(self) -> Schedule:
        """A copy in which the blocks and loops of this one are valid."""
        other = Schedule.__new__(Schedule)
        other.__move_handle_from__(super().copy())
        return other


for _name, _method in vars(s_tir.Schedule).items():
    if hasattr(_method, "__wrapped__") and _name not in vars(Schedule):
        setattr(Schedule, _name, _method.__wrapped__)


class Operator:
    """A legalised operator that the rules are asked about, one after the other. func: its PrimFunc, called main."""

    def __init__(self, func: Any) -> None:
        self.func = func.with_attr("global_symbol", "main")

    @cached_property
    def _schedule(self) -> Schedule:
        return Schedule(self.func)

    @cached_property
    def stages(self) -> list[Stage] | None:
        """Its stages as read_stages has them."""
        return read_stages(self._schedule)

    @cached_property
    def whole(self) -> Stage | None:
        """The operator as one stage without a reduction, its steps written into each other; None where it is more."""
        if self.stages is None or any(stage.reduce for stage in self.stages):
            return None
        stages = inline_cheap(self.schedule(), self.stages, everything=True)
        return stages[0] if len(stages) == 1 and stages[0].is_output else None

    def schedule(self) -> Schedule:
        """A schedule of its own, in which the blocks of self.stages are valid."""
        _ = self.stages  # a copy knows the blocks that the original has been asked for
        return self._schedule.copy()
