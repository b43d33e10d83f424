"""Finds a Dask cluster, and makes sure that every worker would compile exactly what this machine would."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tesa.base.extras import install
from tesa.base.told import line
from tesa.errors import UsageError
from tesa.tune.builders import remote

HOW = "see docs/cluster.md"

CERTIFICATES = "?certificates="
"""Behind an address, in front of the folder that has them."""

_ANSWER_S = 150.0  # for all workers to start a child and to import TVM
_POLL_S = 0.2
_TALKATIVE = ("distributed.batched", "distributed.core")  # they tell of a lost cluster what a warning of ours says

T = TypeVar("T")


def connect(address: str, wanted: Mapping[str, str], *, connect_s: float, workers_s: float) -> Any:
    """A distributed.Client of the scheduler at address, with at least one worker.

    address: with the folder of certificates, where it is to be encrypted; see certificates.

    Raises UsageError: distributed is not installed; a certificate is missing; nobody answers within connect_s seconds;
    there is no worker after workers_s seconds; the scheduler cannot import tesa; a worker has other versions than
    wanted, naming it.
    """
    try:
        import distributed
    except ImportError as error:
        raise UsageError(f"a Dask cluster needs dask.distributed: {install('cluster')}") from error
    for name in _TALKATIVE:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    security = {}
    try:
        make: Any = distributed.Client
        address, files = certificates(address)
        if files:
            secure: Any = distributed.Security
            security = {"security": secure(**files, require_encryption=True)}
        client = make(address, timeout=connect_s, set_as_default=False, name="tesa", **security)
    except OSError as error:
        raise UsageError(
            f"no Dask scheduler answers at {address} within {connect_s:g} s; start one with `dask scheduler` ({HOW}), "
            "or leave the cluster out"
        ) from error
    except UsageError:  # of the certificates
        raise
    except Exception as error:  # whatever answers there may say anything: a web server, for example
        raise UsageError(
            f"cannot use {address!r} as a Dask scheduler: {_line(error)}; write HOST:PORT ({HOW})"
        ) from error
    try:
        _check(client, address, wanted, workers_s)
    except BaseException:
        disconnect(client)
        raise
    return client


def certificates(address: str) -> tuple[str, dict[str, str]]:
    """The address of a scheduler, and the certificates to meet it with, none where no folder of them is named.

    With "?certificates=FOLDER" behind it both sides show a certificate that FOLDER/ca.pem has signed, cert.pem with
    key.pem here, and all that travels is encrypted. Raises UsageError for a file that is not there.

    >>> certificates("tcp://10.0.0.3:8786")
    ('tcp://10.0.0.3:8786', {})
    """
    plain, marked, folder = address.partition(CERTIFICATES)
    if not marked:
        return address, {}
    names = {"tls_ca_file": "ca.pem", "tls_client_cert": "cert.pem", "tls_client_key": "key.pem"}
    files = {option: Path(folder) / name for option, name in names.items()}
    for path in files.values():
        if not path.is_file():
            raise UsageError(
                f"there is no certificate {path}; a folder for a Dask cluster has {', '.join(names.values())} ({HOW})"
            )
    scheme, _, host = plain.rpartition("://")
    if scheme not in ("", "tcp", "tls"):
        raise UsageError(f"a Dask cluster with certificates is met at tls://HOST:PORT, not at {plain} ({HOW})")
    return f"tls://{host}", {option: str(path) for option, path in files.items()}


def disconnect(client: Any) -> None:
    """Close the client, however its cluster is."""
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # it tells with a traceback that it was looking for its scheduler
    try:
        with contextlib.suppress(Exception):  # it is gone either way
            within(5.0, lambda: client.close(timeout=2))
    finally:
        log.setLevel(level)


def within(seconds: float, function: Callable[[], T]) -> T:
    """function(), in a thread. TimeoutError if that takes longer: a scheduler that hangs answers no request at all."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(queue.Empty):
            value, error = answers.get(timeout=min(_POLL_S, seconds))
            if error is not None:
                raise error
            return value  # type: ignore[return-value]
    raise TimeoutError(f"no answer within {seconds:g} s")


def _check(client: Any, address: str, wanted: Mapping[str, str], workers_s: float) -> None:
    try:
        within(_ANSWER_S, lambda: client.run_on_scheduler(remote.can_import))
    except Exception as error:
        raise UsageError(
            f"the Dask scheduler at {address} cannot import tesa: {_line(error)}; install there the same tesa as here "
            f"({HOW})"
        ) from error
    try:
        client.wait_for_workers(1, timeout=workers_s)
    except TimeoutError as error:
        raise UsageError(
            f"the Dask scheduler at {address} has no worker after {workers_s:g} s; start some with "
            f"`dask worker {address}` ({HOW})"
        ) from error
    try:
        answers = within(_ANSWER_S, lambda: client.run(remote.fingerprint, on_error="return"))
    except Exception as error:
        raise UsageError(f"the workers of the Dask cluster at {address} do not answer: {_line(error)}") from error
    bad = problems(answers, wanted) if isinstance(answers, Mapping) else ["the scheduler does not tell of its workers"]
    if bad:
        more = f" (and {len(bad) - 1} more workers)" if len(bad) > 1 else ""
        raise UsageError(
            f"{bad[0]}{more}; every worker needs the same tesa, TVM and TVM-FFI as this machine: install them and "
            f"restart that worker, or stop it ({HOW})"
        )


def on_this_machine(workers: Iterable[str]) -> bool:
    """True where one of the workers' addresses is this machine's.

    >>> on_this_machine(["tcp://127.0.0.1:40000"]), on_this_machine(["tcp://192.0.2.7:40000"])
    (True, False)
    """
    import psutil

    mine = {address.address.partition("%")[0] for group in psutil.net_if_addrs().values() for address in group}
    hosts = {urlsplit(worker).hostname or "" for worker in workers}
    return any(host in mine or host == "localhost" or host.startswith("127.") for host in hosts)


def problems(answers: Mapping[str, Any], wanted: Mapping[str, str]) -> list[str]:
    """A sentence for each worker, by its address, whose versions are not those that are wanted."""
    rows = []
    for worker, found in sorted(answers.items()):
        if isinstance(found, Exception):
            rows.append(f"the Dask worker {worker} cannot run tesa: {_line(found)}")
        elif not isinstance(found, Mapping):
            rows.append(f"the Dask worker {worker} does not tell its versions")
        elif found != wanted:
            rows.append(f"the Dask worker {worker} has {remote.difference(found, wanted)}")
    return rows


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return line(f"{type(error).__name__}: {text[0] if text else 'no message'}")
