"""The RPC tracker that devices register at: TVM's own, in one process, so that nothing of it outlives its end.

TVM's command (tvm.exec.rpc_tracker) serves in a child, which stays when the command is ended by a signal and keeps the
port. It also listens on all addresses; this one is reached from this machine alone, unless another address is named:

    python -m tesa.measure.remote.tracker_server --host 192.168.1.10 --port 9190

Whoever reaches it can pose as a device: name an address in a network that you trust. It needs apache-tvm, tornado,
cloudpickle and this one file.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def serve(host: str, port: int) -> NoReturn:
    """Listen at that address, and serve until a signal ends the process. SystemExit where it cannot listen there."""
    from tvm.rpc import tracker

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: os._exit(128 + got))  # its thread would hold an ordinary end
    try:
        server = tracker.PopenTrackerServerState(host, port, port + 1)
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot listen at {host}:{port}: {error}; name others with --host and --port") from None
    print(f"tracker at {host}:{server.port}; Ctrl-C ends it", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.thread.join()
    os._exit(1)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Bring devices that measure and those who tune together.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=9190, help="port to listen at (default: 9190)")
    args = parser.parse_args(words)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    serve(args.host, args.port)


if __name__ == "__main__":
    main()
