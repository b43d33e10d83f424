"""Where candidates are built and measured: processes of this machine, a Dask cluster, devices of an RPC tracker."""

from __future__ import annotations

import atexit
import functools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from threading import Lock

from tesa.errors import UsageError
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.remote.address import split_address
from tesa.measure.remote.local import LocalRunner
from tesa.measure.remote.runner import RpcRunner
from tesa.targets.target import Target, runs_here
from tesa.tune.builders.cluster import ClusterBuilder
from tesa.tune.builders.local import LocalBuilder

Address = tuple[str, int]
"""Host and port of an RPC tracker."""


@dataclass(frozen=True)
class Workplace:
    """builder and runner as they were asked for. overlap: one can work while the other does, on different machines."""

    builder: Builder
    runner: Runner
    overlap: bool


@contextmanager
def workplace(
    *, rpc: Address | None = None, key: str | None = None, cluster: str | None = None, jobs: int | None = None
) -> Iterator[Workplace]:
    """The builder and the runner that were asked for; their processes end, and devices are free, after the block.

    rpc, key: address of a tracker, and of which of its devices, instead of this machine. cluster: address of a Dask
    scheduler whose workers compile. jobs: compiler processes here. On this machine nothing is built while it measures.

    Raises UsageError as ClusterBuilder and RpcRunner do.
    """
    alone = Lock()
    with ExitStack() as stack:
        builder: Builder
        if cluster is None:
            builder, elsewhere = stack.enter_context(closing(LocalBuilder(jobs))), False
        else:
            many = stack.enter_context(closing(ClusterBuilder(cluster, jobs=jobs, alone=alone)))
            builder, elsewhere = many, not many.here
        runner: Runner = LocalRunner(alone=alone) if rpc is None else RpcRunner(*rpc, str(key))
        stack.enter_context(closing(runner))
        yield Workplace(builder, runner, rpc is not None or elsewhere)


def tracker_address(rpc: str | None, key: str | None, target: Target, measures: bool = True) -> Address | None:
    """Host and port of the tracker that a user named; None for this machine.

    Raises UsageError for half an address, and where something is to be measured and neither can run the target's code.
    """
    if rpc is None:
        if key is not None:
            raise UsageError("a key names devices of a tracker: give its address with --rpc HOST:PORT as well")
        if measures and not runs_here(target):
            raise UsageError(
                f"this machine cannot run code for {target.name}, so that nothing can be measured: give the tracker of "
                "devices that can with --rpc HOST:PORT --key KEY (rpc= and key= in Python)"
            )
        return None
    if key is None:
        raise UsageError(f"the tracker {rpc} may have devices of several kinds: name one with --key KEY")
    try:
        return split_address(rpc)
    except ValueError as error:
        raise UsageError(
            f"{rpc!r} is no address of a tracker; expected HOST:PORT, as in 127.0.0.1:9190 or [::1]:9190"
        ) from error


@functools.cache
def shared_builder(jobs: int) -> LocalBuilder:
    """A builder that lives as long as this process: the next kernel in a notebook does not wait for children to start.

    >>> shared_builder(2) is shared_builder(2)
    True
    """
    builder = LocalBuilder(jobs)
    atexit.register(builder.close)
    return builder
