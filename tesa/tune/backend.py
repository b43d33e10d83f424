"""Opens the builder and the runner of a job: processes of this machine, a Dask cluster, devices of an RPC tracker."""

import atexit
import functools
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from threading import Lock

from tesa.errors import UsageError
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.runners import Tell, runner_for
from tesa.targets.architecture import Target, find
from tesa.tune.builders.cluster import ClusterBuilder
from tesa.tune.builders.gpu import GpuBuilder
from tesa.tune.builders.local import LocalBuilder

Address = tuple[str, int]
"""Host and port of an RPC tracker."""


@dataclass(frozen=True)
class Backend:
    """builder and runner as they were asked for. overlap: one can work while the other does, on different machines."""

    builder: Builder
    runner: Runner
    overlap: bool


@contextmanager
def backend(
    target: Target,
    *,
    rpc: Address | None = None,
    key: str | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    tell: Tell = lambda text: None,
) -> Iterator[Backend]:
    """The builder and the runner that were asked for; their processes end, and devices are free, after the block.

    rpc, key: address of a tracker, and of which of its devices, instead of this machine. cluster: address of a Dask
    scheduler whose workers compile. jobs: compiler processes here. On this machine nothing is built while it measures.
    tell: gets a sentence about a device when it dies or comes back.

    Raises UsageError as ClusterBuilder and RpcRunner do, and for a cluster that is to compile for a GPU.
    """
    alone = Lock()
    with ExitStack() as stack:
        builder: Builder
        if target.gpu is not None:
            if cluster is not None:
                raise UsageError(f"kernels for {target.name} are built on this machine: leave --cluster (cluster=) out")
            builder, elsewhere = stack.enter_context(closing(GpuBuilder(jobs))), False
        elif cluster is None:
            builder, elsewhere = stack.enter_context(closing(LocalBuilder(jobs))), False
        else:
            many = stack.enter_context(closing(ClusterBuilder(cluster, jobs=jobs, alone=alone)))
            builder, elsewhere = many, not many.here
        runner = stack.enter_context(closing(runner_for(target, address=rpc, key=key, alone=alone, tell=tell)))
        yield Backend(builder, runner, rpc is not None or elsewhere)


def names_cpu(target: object) -> bool:
    """True where a user's text for a target says which CPU it is; False where it is this machine's.

    >>> names_cpu("x86"), names_cpu("x86:haswell")
    (False, True)
    """
    architecture = find(target) if isinstance(target, str) else None
    return target is not None and (architecture is None or bool(architecture.bare))


@functools.cache
def shared_builder(jobs: int) -> LocalBuilder:
    """A builder that lives as long as this process: the next kernel in a notebook does not wait for children to start.

    >>> shared_builder(2) is shared_builder(2)
    True
    """
    builder = LocalBuilder(jobs)
    atexit.register(builder.close)
    return builder
