"""The health of a tracker's devices: each that is free is connected to, checked and asked what it is."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tesa.base.display import Displayed
from tesa.base.scratch import Scratch
from tesa.base.worker import Worker, WorkerError
from tesa.errors import UsageError
from tesa.measure.heartbeat import Heartbeat
from tesa.measure.remote.address import Address
from tesa.measure.remote.code import DeviceLinker
from tesa.measure.remote.messages import About, Outcome, Report, SessionRequest
from tesa.measure.remote.session import new_worker
from tesa.measure.remote.tracker import Lease, Listing, Tracker, TrackerLost
from tesa.targets.architecture import architectures
from tesa.targets.toolchain import NATIVE, Toolchain

FREE, BUSY, BROKEN = "free", "busy", "broken"
"""State of a Device. A busy one serves somebody else, or is stuck: it cannot be checked."""

_AT_ONCE = 8  # devices that are checked together
_GRACE_S = 1.5  # for a server to be free again after its last session


@dataclass(frozen=True)
class Device:
    """One RPC server. state: FREE, BUSY or BROKEN; reason: why it is broken. about: only of one that answered."""

    key: str
    address: Address
    state: str
    reason: str = ""
    about: About | None = None


class Devices(Displayed, tuple[Device, ...]):
    """Devices that were looked at, in the order of their keys and addresses."""


def devices(
    host: str, port: int, *, key: str | None = None, answer_s: float = 10.0, compiler: str | None = None,
    tools: Toolchain | None = None,
) -> Devices:  # fmt: skip
    """The servers of the tracker at host:port, or those with a key, each that is free checked.

    A device that does not answer within answer_s seconds, or whose numbers are wrong, is broken. tools: of the devices'
    target; by default those of every architecture that this machine has tools for. compiler: the C compiler that links
    code for the devices instead.

    Raises UsageError if there is no tracker, or no compiler.
    """
    tracker = Tracker(host, port)
    try:
        listing = tracker.listing()
        with Scratch() as name:
            chains = _chains() if tools is None else [tools]
            probes = _probes(Path(name), [Toolchain(compiler)] if compiler else chains)
            workers = [new_worker() for _ in range(min(_AT_ONCE, len(listing.servers)))]
            try:
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    list(pool.map(Worker.start, workers))  # ready before a device waits for them
                leases = _leases(tracker, listing, key)
                found = _examine(leases, workers, probes, Path(name), answer_s)
            finally:
                for worker in workers:
                    worker.close()
    except TrackerLost as error:
        raise UsageError(
            f"cannot reach an RPC tracker at {host}:{port} ({error}); start one: "
            f"python -m tesa.measure.remote.tracker_server --host {host} --port {port}"
        ) from error
    finally:
        tracker.close()
    checked = {(device.key, device.address): device for device in found}
    servers = [server for server in listing.servers if key in (None, server[0])]
    return Devices(checked.get(server, Device(*server, BUSY)) for server in servers)


def _chains() -> list[Toolchain]:
    """The tools of every architecture that this machine has a compiler for, its own first."""
    others = [one.toolchain for one in architectures() if one.toolchain.machines and one.toolchain.foreign]
    return [NATIVE, *(tools for tools in others if tools.found())]


def _probes(folder: Path, chains: Sequence[Toolchain]) -> dict[str, str]:
    """The libraries of the known-good check by the architecture that they are made for."""
    found = {}
    for number, tools in enumerate(chains):
        home = folder / str(number)
        home.mkdir()
        linker = DeviceLinker(home, tools)
        found[linker.machine] = str(linker.probe())
    return found


def _leases(tracker: Tracker, listing: Listing, key: str | None) -> list[tuple[str, Lease]]:
    """Every server that is free, or will be in a moment: the tracker gives each away once."""
    leases = []
    until = time.monotonic() + _GRACE_S
    for name in sorted({name for name, _ in listing.servers if key in (None, name)}):
        for _ in listing.of(name):
            lease = tracker.request(name, until=until)
            if lease is None:
                break
            leases.append((name, lease))
    return leases


def _examine(
    leases: Sequence[tuple[str, Lease]], workers: Sequence[Worker], probes: Mapping[str, str], home: Path,
    answer_s: float,
) -> list[Device]:  # fmt: skip
    idle = list(workers)

    def one(item: tuple[int, tuple[str, Lease]]) -> Device:
        index, (key, lease) = item
        worker = idle.pop()
        try:
            report = _visit(worker, lease, probes, home / f"heartbeat{index}", answer_s)
        finally:
            idle.append(worker)
        sound = report.outcome is Outcome.OK
        return Device(key, lease.address, FREE if sound else BROKEN, "" if sound else report.message, report.about)

    with ThreadPoolExecutor(len(workers) or 1) as pool:
        return list(pool.map(one, enumerate(leases)))


def _visit(worker: Worker, lease: Lease, probes: Mapping[str, str], beats: Path, answer_s: float) -> Report:
    """The report of a session that only checks the device."""
    heartbeat = str(beats)
    Heartbeat(heartbeat).close()
    request = SessionRequest(
        lease.address.host, lease.address.port, lease.matchkey, 2 * answer_s, answer_s, heartbeat,
        probes, time_link=True,
    )  # fmt: skip
    try:
        report: Report = worker.call("tesa.measure.remote.session:run", request, timeout=answer_s + 1)
    except WorkerError:
        return Report(Outcome.LOST, max(0, Heartbeat.last(heartbeat)), f"no answer within {answer_s:g} s")
    return report
