"""Watches a running model: one entry for each kernel that it calls, in order."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tesa.base.loop_names import LOOP, STEP
from tesa.choose.plan import LayerPlan
from tesa.errors import UsageError
from tesa.runtime.local import LocalModel
from tesa.runtime.model import Model


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel: its symbol, the layer it belongs to (None for a copy that no layer asked for), its time."""

    symbol: str
    layer: LayerPlan | None
    ms: float
    result: Any


NOT_KERNELS = ("vm.", LOOP, STEP)
"""What the names of functions begin with that compute nothing themselves: of the machine, and of loops."""

Keep = Callable[[LayerPlan, Any], Any]


def trace(model: Model, prepared: Sequence[Any], runs: int = 1, keep: Keep = lambda *_: None) -> list[list[KernelCall]]:
    """Run `runs` times on prepared inputs; the calls of each run.

    keep(layer, tensor): its value for the layer's result tensor becomes KernelCall.result. The tensor's memory is used
    again after the call, so it has to copy what it wants. UsageError for a model that runs elsewhere.
    """
    if not isinstance(model, LocalModel):
        raise UsageError(
            "single layers can be looked at only where the model runs in this process: load it on the device itself, "
            "or leave --per-layer and --profile out (per_layer=, profile= in Python)"
        )
    calls: list[KernelCall] = []
    waiting: list[LayerPlan] = []
    again: dict[str, LayerPlan] = {}
    start = 0

    def note(_function: object, symbol: str, before: bool, _returned: object, *args: Any) -> None:
        nonlocal start
        if symbol.startswith(NOT_KERNELS):
            return
        if before:
            start = time.perf_counter_ns()
            return
        ms = (time.perf_counter_ns() - start) / 1e6
        if waiting and waiting[0].symbol == symbol:
            layer: LayerPlan | None = waiting.pop(0)
            if layer is not None and layer.calls > 1:
                again[symbol] = layer
        else:  # a step of a loop behind its first one, or a copy
            layer = again.get(symbol)
        calls.append(KernelCall(symbol, layer, ms, None if layer is None else keep(layer, args[-1])))

    rounds = []
    execute = model.watched(note)
    for _ in range(runs):
        waiting[:] = model.plan.layers
        again.clear()
        execute(*prepared)
        rounds.append(calls[:])
        calls.clear()
    return rounds
