"""An RPC server for a device that measures: TVM's own, made to outlive what it runs.

TVM's server stops serving for good when a kernel crashes the process of its session, and when its tracker is away for
a minute; it waits for ever for a client that connects and says nothing; and a session lives on when the server itself
is killed. This one has none of these faults. It needs apache-tvm and this one file, which can be copied to the device:

    python -m tesa.measure.remote.server --tracker 192.168.1.10:9190 --key pi5 --host 192.168.1.20
    python server.py --tracker 192.168.1.10:9190 --key pi5 --host 192.168.1.20

--host is the address of the device at which it listens; without it only this very machine reaches the server. Whoever
can reach it can run any code on the device, as with every RPC server of TVM: name an address in a network that you
trust.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import functools
import json
import logging
import os
import platform
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

_HANDSHAKE_S = 10.0  # for a client, from connecting to its key
_TRACKER_S = 30.0  # for an answer of the tracker
_AGAIN_S = 1.0  # between two tries to reach the tracker
_TELL_S = 60.0  # between two complaints that there is none
_PR_SET_PDEATHSIG = 1  # of Linux's prctl

Hook = Callable[[], None]


def serve(
    tracker: tuple[str, int],
    key: str,
    *,
    host: str = "127.0.0.1",
    ports: tuple[int, int] = (9090, 9199),
    address: str | None = None,
    in_session: Hook | None = None,
) -> None:
    """Register at the tracker under the key and serve one session after another, for ever.

    ports: the first free one from ports[0] to ports[1] - 1 is taken. address: what clients connect to, if it is not
    the address that the tracker sees. in_session is called in the process of each session before it begins.
    """
    # TVM takes one thread for each core, not for each logical CPU, and a session cannot ask for more than that.
    os.environ.setdefault("TVM_NUM_THREADS", str(_usable_cpus()))
    from tvm.rpc import server as tvm_server

    tvm_server._serving = _outliving(tvm_server._serving)
    tvm_server._serve_loop = functools.partial(_session, tvm_server._serve_loop, in_session)
    tvm_server.base.connect_with_retry = _reach
    listener = _listen(host, ports)
    tvm_server.logger.info("tesa: %s at port %d, tracker %s:%d", key, listener.getsockname()[1], *tracker)
    while True:
        try:
            tvm_server._listen_loop(listener, listener.getsockname()[1], key, tracker, "", address)
        except Exception as error:  # a client that talks nonsense, or a tracker: neither ends the server
            tvm_server.logger.warning("%s: %s", type(error).__name__, error)
            time.sleep(_AGAIN_S)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Listener(socket.socket):
    """A listening socket whose clients must name themselves in time."""

    def accept(self) -> tuple[socket.socket, Any]:
        """The next client."""
        client, address = super().accept()
        client.settimeout(_HANDSHAKE_S)
        return client, address


def _listen(host: str, ports: tuple[int, int]) -> _Listener:
    family = socket.getaddrinfo(host, ports[0], 0, 0, socket.IPPROTO_TCP)[0][0]
    listener = _Listener(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for port in range(*ports):
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            listener.listen(8)
            return listener
    raise SystemExit(f"no free port from {ports[0]} to {ports[1] - 1}; choose others with --port and --port-end")


def _reach(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
    """A connection to the tracker, tried until there is one."""
    told = -_TELL_S
    while True:
        try:
            connection = socket.create_connection(address, _TRACKER_S)
        except OSError as error:
            if time.monotonic() - told >= _TELL_S:
                told = time.monotonic()
                logging.getLogger("RPCServer").warning("no tracker at %s:%d (%s), trying on", *address, error)
            time.sleep(_AGAIN_S)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return connection


def _outliving(serving: Callable[..., None]) -> Callable[..., None]:
    """TVM's function for one session, without its error where the process of the session crashed."""
    home = os.getcwd()

    @functools.wraps(serving)
    def outliving(client: socket.socket, *rest: Any) -> None:
        client.settimeout(None)
        try:
            serving(client, *rest)
        except Exception as error:
            logging.getLogger("RPCServer").warning("session lost: %s", error)
            _tell(client, str(error))
        finally:
            os.chdir(home)
            client.close()

    return outliving


def _tell(client: socket.socket, message: str) -> None:
    """Let the client know what its session died of: it sees a closed connection otherwise."""
    from tvm.rpc import _ffi_api

    code = re.search(r"error code -(\d+)", message)
    how = signal.Signals(int(code[1])).name if code else message
    with contextlib.suppress(Exception):  # it may have gone
        _ffi_api.ReturnException(client.fileno(), f"SessionError: the process died (killed by {how})")


def _session(serve_loop: Callable[..., None], hook: Hook | None, *arguments: Any) -> None:
    """The process of a session: ends with its server, and can tell what it runs on."""
    import tvm_ffi

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # TVM ends a session that takes too long like this
    tvm_ffi.register_global_func("tesa.about", _about, override=True)
    if hook is not None:
        hook()
    serve_loop(*arguments)


def _about() -> str:
    """JSON: versions, the architecture, and LLVM's name of the CPU where TVM's compiler is installed."""
    import tvm
    import tvm_ffi

    facts = {"server": "tesa", "python": platform.python_version(), "machine": platform.machine()}
    facts.update(tvm=str(tvm.__version__), tvm_ffi=str(tvm_ffi.__version__))
    try:
        from tvm.target import codegen

        facts["llvm_cpu"] = str(codegen.llvm_get_system_cpu())
    except (ImportError, AttributeError, RuntimeError):  # the runtime alone is enough to measure
        facts["llvm_cpu"] = ""
    return json.dumps(facts)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def main(words: Sequence[str] | None = None, in_session: Hook | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Let tesa measure kernels on this device, through an RPC tracker.")
    parser.add_argument("--tracker", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--key", required=True, help="the same for devices of the same CPU")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=9090, help="first port to try (default: 9090)")
    parser.add_argument("--port-end", type=int, default=9199, help="one behind the last port to try (default: 9199)")
    parser.add_argument("--custom-addr", metavar="ADDRESS", help="what clients connect to, if it is another address")
    args = parser.parse_args(words)
    ports = (args.port, max(args.port_end, args.port + 1))
    try:
        serve(args.tracker, args.key, host=args.host, ports=ports, address=args.custom_addr, in_session=in_session)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
