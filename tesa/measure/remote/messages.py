"""Messages between a runner and the processes that talk to devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from numpy.typing import NDArray

from tesa.measure.failure import FailureKind
from tesa.measure.reference import Inputs, Reference, reference
from tesa.measure.timing import Timing
from tesa.schedules.types import FloatArray, Problem

CONNECTING, CHECKING, SENDING, RUNNING = range(4)
"""The stages of a session. What goes wrong before the last one is not the candidate's doing."""


class Outcome(Enum):
    """The end of a session."""

    OK = "ok"
    LOAD = "load"  # told by a device that goes on, as the next two
    CALL = "call"
    WRONG = "wrong"
    EXPIRED = "expired"  # the device ended the session because its time was over
    LOST = "lost"  # the connection broke
    HUNG = "hung"  # tesa had to end it: neither the candidate nor the device gave an answer
    REFUSED = "refused"  # there was no session
    UNSOUND = "unsound"  # the device failed the known-good check, or cannot do what is asked

    @property
    def blames_device(self) -> bool:
        """True where the candidate has no part in it, however far it came."""
        return self in (Outcome.REFUSED, Outcome.UNSOUND)

    @property
    def silent(self) -> bool:
        """True where the session ended without a word about the candidate."""
        return self in (Outcome.LOST, Outcome.HUNG, Outcome.EXPIRED)

    @property
    def failure(self) -> FailureKind:
        """The failure of a candidate that was running."""
        kinds = {
            Outcome.LOST: FailureKind.CRASH,
            Outcome.EXPIRED: FailureKind.TIMEOUT,
            Outcome.HUNG: FailureKind.TIMEOUT,
        }
        return kinds.get(self) or FailureKind(self.value)


@dataclass(frozen=True)
class SessionRequest:
    """A session's way: where, what is checked, what is measured.

    host, port, matchkey: as the tracker says. limit_s: the device ends the session after that; answer_s: this process
    ends if the device has not answered and passed its check by then. heartbeat: file that tells how far the session is.

    probes: libraries of the known-good check, which is run first, by the architecture that they are made for, "" if
    unknown; none for no check. time_link: time the link too. library: the candidate's, "" for none. layer: file of a
    Workload.
    """

    host: str
    port: int
    matchkey: str
    limit_s: float
    answer_s: float
    heartbeat: str
    probes: Mapping[str, str] = field(default_factory=dict)
    time_link: bool = False
    library: str = ""
    symbol: str = ""
    constants: tuple[NDArray[Any], ...] = ()
    layer: str = ""
    budget_ms: float = 0.0


@dataclass(frozen=True)
class Workload:
    """A layer's part in a measurement: the arguments of its kernels are (x, *constants, *extra, y).

    wanted: the right y. weight_bytes, columns: of tesa.measure.cold_cache.other_bytes.
    """

    x: NDArray[Any]
    extra: tuple[NDArray[Any], ...]
    y_shape: tuple[int, ...]
    y_dtype: str
    wanted: Reference
    threads: int = 1
    weight_bytes: int = 0
    columns: int = 0

    @staticmethod
    def of(problem: Problem, weight: FloatArray) -> Workload:
        """The workload of a layer, weight (m, k), with random inputs and NumPy's result."""
        inputs = Inputs.random(problem)
        wanted = reference(problem, weight, inputs)
        return Workload(
            inputs.x, inputs.extra, problem.y_shape, problem.output.dtype, wanted, problem.threads,
            problem.weight_bytes, problem.n * problem.batch,
        )  # fmt: skip


@dataclass(frozen=True)
class About:
    """A device as it describes itself, and the way to it: latency of one call, bandwidth of the link.

    cpu: LLVM's name if the device knows it, else as Linux calls it; "emulated" and the architecture where another
    machine plays it. machine: its architecture, as uname tells it. versions: of "tvm", "tvm_ffi", "python", "server".
    """

    cpu: str
    model: str
    machine: str
    cores: int
    host: str
    versions: dict[str, str]
    latency_ms: float = 0.0
    link_mb_s: float = 0.0
    emulated: bool = False

    def record(self, key: str) -> dict[str, Any]:
        """The device as records name it. key: that it has at its tracker."""
        told: dict[str, Any] = {"cpu": self.cpu, "model": self.model, "cores": str(self.cores), "key": key}
        told["system"] = f"Linux {self.machine}"
        if self.emulated:
            told["emulated"] = True
        return {**told, **{name: value for name, value in self.versions.items() if name in ("tvm", "tvm_ffi")}}


@dataclass(frozen=True)
class Report:
    """A session's result. stage: how far it came. about: of a device that was asked what it is."""

    outcome: Outcome
    stage: int
    message: str = ""
    timing: Timing | None = None
    about: About | None = None
