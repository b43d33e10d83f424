"""A whole model on a device, as long as a session lasts. The functions run in a child process, one session in each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tesa.base.scratch import Scratch
from tesa.base.told import line, milliseconds
from tesa.base.worker import TimedOut, Worker, WorkerError
from tesa.errors import ModelError, UsageError
from tesa.measure.remote.checkup import examine
from tesa.measure.remote.code import DeviceLinker
from tesa.measure.remote.messages import About
from tesa.measure.remote.session import line_of, set_threads
from tesa.measure.remote.tracker import Lease, Tracker, TrackerLost
from tesa.measure.timing import calls_per_slice
from tesa.targets.toolchain import Toolchain

Array = NDArray[Any]

Kind = tuple[tuple[int, ...], str]
"""Shape and type of an output."""

_CPU, _POOLED = 1, 2
_HERE = __name__
_MOST_CALLS = 1000  # of one slice


class DeviceModel:
    """A compiled model on a device of a tracker: leased, checked, and busy with it until close().

    about: what the device says of itself; digest: the library's own, see tesa.runtime.pair.

    limit_s: seconds that the device may be held and that one call may take; wait_s: how long to wait for a free one.

    Raises UsageError where no device can be had, ModelError where the device cannot run the model.
    """

    def __init__(
        self, host: str, port: int, key: str, library: Path, *, tools: Toolchain, threads: int = 1,
        limit_s: float = 600.0, wait_s: float = 60.0,
    ) -> None:  # fmt: skip
        self._limit_s = limit_s
        self._worker = Worker({"TVM_NUM_THREADS": "1"}, ["tvm.rpc", _HERE])
        try:
            self.about = self._opened(_lease(host, port, key, wait_s, self._worker), library, tools, threads)
        except BaseException:
            self.close()
            raise

    def run(self, function: str, inputs: Sequence[Array], outputs: Sequence[Kind]) -> list[Array]:
        """The outputs of a call of the model's function, which have to be of the given shapes and types."""
        return list(self._call("run", function, list(inputs), list(outputs)))

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Milliseconds of one call, by the device's clock, a sample for each round."""
        return list(self._call("time_rounds", function, list(inputs), rounds))

    def close(self) -> None:
        """End the session; the device is free again."""
        self._worker.close()

    def _opened(self, lease: Lease, library: Path, tools: Toolchain, threads: int) -> About:
        with Scratch() as name:
            linker = DeviceLinker(Path(name), tools)
            probes = {linker.machine: str(linker.probe())}
            failed, about = self._call("open_session", lease, self._limit_s, probes)
        if failed or about is None:
            raise UsageError(f"the device {lease.address} cannot be used: {failed}; see `tesa devices`")
        self.about = about
        found: About = about
        try:
            self.digest = str(self._call("load", str(library), threads))
        except UsageError as error:
            raise ModelError(f"{library}: cannot be run on {found.cpu} ({lease.address}): {error}") from error
        return found

    def _call(self, name: str, *words: object) -> Any:
        try:
            return self._worker.call(f"{_HERE}:{name}", *words, timeout=self._limit_s)
        except TimedOut as error:
            raise UsageError(f"the device gave no answer for {self._limit_s:g} s") from error
        except WorkerError as error:
            said = str(error).split("\nTraceback")[0].removeprefix("DeviceError: ")
            raise UsageError(f"the device failed: {said}") from error


def _lease(host: str, port: int, key: str, wait_s: float, worker: Worker) -> Lease:
    tracker = Tracker(host, port)
    worker.start()  # a device does not wait for long
    try:
        listing = tracker.listing()
        lease = tracker.request(key, until=time.monotonic() + wait_s) if listing.of(key) else None
    except TrackerLost as error:
        raise UsageError(
            f"cannot reach the RPC tracker at {tracker} ({error}); start it: "
            f"python -m tesa.measure.remote.tracker_server --host {host} --port {port}"
        ) from error
    finally:
        tracker.close()
    if lease is not None:
        return lease
    if listing.of(key):
        raise UsageError(f"no device with key {key!r} at the RPC tracker {tracker} was free for {wait_s:g} s")
    keys = sorted({name for name, _ in listing.servers})
    raise UsageError(
        f"no device with key {key!r} at the RPC tracker {tracker}; keys there: {', '.join(keys) or 'none'}; on the "
        f"device: python -m tesa.measure.remote.server --tracker {tracker} --key {key}"
    )


class DeviceError(Exception):
    """The words of a device, in one line."""


@dataclass
class _State:
    """The session of this process, and the virtual machine in it."""

    session: Any = None
    machine: Any = None
    functions: dict[str, Any] = field(default_factory=dict)


_STATE = _State()


def open_session(lease: Lease, limit_s: float, probes: Mapping[str, str]) -> tuple[str, About | None]:
    """Begin the session and check the device: what is wrong with it, and what it says of itself."""
    from tvm import rpc

    try:
        _STATE.session = rpc.connect(lease.address.host, lease.address.port, lease.matchkey, limit_s)
        return examine(_STATE.session, probes)
    except Exception as error:
        raise DeviceError(line_of(error)) from error


def load(library: str, threads: int) -> str:
    """Send the model and make a virtual machine of it. The answer is the library's digest."""
    session = _STATE.session
    try:
        short = set_threads(session, threads)
        if short:
            raise DeviceError(short)
        session.upload(library, "model.so")
        module = session.load_module("model.so")
        missing = _told(module, "tesa_missing")
        if missing:
            raise DeviceError(f"its CPU lacks {missing}")
        digest = _told(module, "tesa_digest")
        machine = module["vm_load_executable"]()
        machine["vm_initialization"](_CPU, 0, _POOLED)
    except Exception as error:
        raise DeviceError(line_of(error)) from error
    _STATE.machine = machine
    return digest


def _told(module: Any, name: str) -> str:
    """The answer of a library's function: the instruction sets that the device lacks, or the digest; "" without it."""
    try:
        ask = module[name]
    except Exception:  # of an earlier version
        return ""
    return line(str(ask()))


def run(function: str, inputs: Sequence[Array], outputs: Sequence[Kind]) -> list[Array]:
    """The outputs of one call. Nothing comes here that is not of the shapes and types that the model has."""
    try:
        machine = _given(function, inputs)
        machine["invoke_stateful"](function)
        count = int(machine["get_output_arity"](function))
        if abs(count) != len(outputs):  # one that is no tuple tells -1
            raise DeviceError(f"it has {abs(count)} outputs, and the model {len(outputs)}")
        results = [machine["get_output"](function, *([index] if count >= 0 else [])) for index in range(abs(count))]
        for result, (shape, dtype) in zip(results, outputs, strict=True):
            found = tuple(int(extent) for extent in result.shape), str(result.dtype)
            if found != (tuple(shape), dtype):
                raise DeviceError(f"an output is {found[1]} of shape {found[0]}, expected {dtype} of {tuple(shape)}")
        return [result.numpy() for result in results]
    except Exception as error:
        raise DeviceError(line_of(error)) from error


def time_rounds(function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
    """Milliseconds of one call for each round, by the device's clock. The loop of a round is TVM's, on the device."""
    try:
        machine = _given(function, inputs)

        def lap(number: int) -> float:
            evaluator = machine.time_evaluator("invoke_stateful", _STATE.session.cpu(0), number=number, repeat=1)
            return milliseconds(float(evaluator(function).results[0]) * 1e3, "the device")

        number = calls_per_slice(min(lap(1) for _ in range(3)), 1, _MOST_CALLS)
        return [lap(number) for _ in range(rounds)]
    except Exception as error:
        raise DeviceError(line_of(error)) from error


def _given(function: str, inputs: Sequence[Array]) -> Any:
    """The virtual machine, with the inputs of a function set."""
    import tvm

    device = _STATE.session.cpu(0)
    tensors = [tvm.runtime.tensor(array, device=device) for array in inputs]
    _STATE.machine["set_input"](function, *tensors)
    return _STATE.machine
