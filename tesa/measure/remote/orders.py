"""What a runner and the processes that talk to devices say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tesa.measure.reference import Inputs, Reference, reference
from tesa.measure.timing import Timing
from tesa.schedules.types import FloatArray, Problem

CONNECTING, CHECKING, SENDING, RUNNING = range(4)
"""How far a session is. What goes wrong before the last one is not the candidate's doing."""


@dataclass(frozen=True)
class Order:
    """What a session does. host, port, matchkey: where, as the tracker says. limit_s: the device ends it after that;
    answer_s: this process ends if the device has not answered and passed its check by then.

    probe: library of the known-good check, run first; "" for none. link: time the link too. library: the
    candidate's, "" for none; helpers: False where device.c is not in it. layer: file of a Workload. slot: file that
    tells how far the session is.
    """

    host: str
    port: int
    matchkey: str
    limit_s: float
    answer_s: float
    slot: str
    probe: str = ""
    link: bool = False
    library: str = ""
    symbol: str = ""
    constants: tuple[NDArray[Any], ...] = ()
    helpers: bool = True
    layer: str = ""
    budget_ms: float = 0.0


@dataclass(frozen=True)
class Workload:
    """What all candidates of a layer share: their arguments are (x, *constants, *extra, y).

    wanted: the right y; None where nobody knows it, and nothing is compared. weight_bytes,
    columns: of tesa.measure.cold_cache.other_bytes; 0: unknown.
    """

    x: NDArray[Any]
    extra: tuple[NDArray[Any], ...]
    y_shape: tuple[int, ...]
    y_dtype: str
    wanted: Reference | None
    threads: int = 1
    weight_bytes: int = 0
    columns: int = 0

    @staticmethod
    def of(problem: Problem, weight: FloatArray) -> Workload:
        """With random inputs and NumPy's result."""
        inputs = Inputs.random(problem)
        wanted = reference(problem, weight, inputs)
        return Workload(
            inputs.x, inputs.extra, problem.y_shape, problem.output.dtype, wanted, problem.threads,
            problem.weight_bytes, problem.n * problem.batch,
        )  # fmt: skip


@dataclass(frozen=True)
class About:
    """What a device says of itself, and how far it is: latency of one call, bandwidth of the link.

    cpu: LLVM's name if the device knows it, else as Linux calls it. versions: of "tvm", "tvm_ffi", "python", "server".
    """

    cpu: str
    model: str
    machine: str
    cores: int
    host: str
    versions: dict[str, str]
    latency_ms: float = 0.0
    link_mb_s: float = 0.0


@dataclass(frozen=True)
class Report:
    """How a session ended.

    kind: "ok"; "load", "call", "wrong": the candidate's fault, told by a device that goes on; "expired": the device
    ended the session because its time was over; "lost": the connection broke; "refused": there was none;
    "bad": the device failed the known-good check, or cannot do what is asked. stage: how far it came.
    """

    kind: str
    stage: int
    message: str = ""
    timing: Timing | None = None
    about: About | None = None
