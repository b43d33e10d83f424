"""One process of Node.js that runs modules of WebAssembly, by requests that each have an answer or an end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tesa.base.scratch import scratch_file
from tesa.base.told import line, parsed
from tesa.measure.node.engine import engine

KINDS = ("load", "trap", "call")

HARNESS = Path(__file__).with_name("harness.mjs")

_START_S = 120.0  # for the process to answer first, however busy the machine is
_MOST = 1 << 24  # bytes of an answer
_TAIL = 600  # characters of its error output that go into a message


class Refused(Exception):
    """A request that failed in Node.js. kind: "load", "trap" or "call"; the process goes on."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Ended(Exception):
    """The process ended during a request, or was ended because it took too long (late)."""

    def __init__(self, message: str, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True)
class Place:
    """Memory for an argument: so many bytes, skew behind a multiple of 64, filled from the file.

    guard: bytes of ones in front of it and behind it; it is then filled with ones first.
    """

    bytes: int
    file: str | None = None
    skew: int = 0
    guard: int = 0


class Session:
    """A running Node.js. features: of LLVM, that the modules have.

    >>> with Session() as session:
    ...     sorted(session.ask({"do": "about"}))
    ['node', 'v8']
    """

    def __init__(self, features: Iterable[str] = ()) -> None:
        found = engine()
        self._errors: IO[bytes] = scratch_file()
        # a debugger or a loader of the user's has no place in a process that measures
        env = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"}
        self._process = subprocess.Popen(
            [found.path, *found.flags(features), str(HARNESS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, env=env,
        )  # fmt: skip
        self._buffer = b""
        self._modules = 0
        self.ask({"do": "about"}, _START_S)

    def load(self, wasm: Path, symbol: str, places: Sequence[Place], limit_s: float = _START_S) -> int:
        """The number of a module that is ready to call its symbol with these arguments. Raises as ask."""
        self._modules += 1
        request = {"do": "load", "id": self._modules, "wasm": str(wasm), "symbol": symbol}
        self.ask({**request, "place": [asdict(place) for place in places]}, limit_s)
        return self._modules

    def call(self, module: int, limit_s: float) -> int:
        """The answer of the module's function. Raises as ask."""
        return int(self.ask({"do": "call", "id": module}, limit_s)["status"])

    def ask(self, request: dict[str, Any], limit_s: float = _START_S) -> dict[str, Any]:
        """The answer to a request, see harness.mjs. Raises Refused; Ended where the process dies or has to be ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            answer = parsed(self._line(time.monotonic() + limit_s))
            if not isinstance(answer, dict):
                raise ValueError("no answer")
        except TimeoutError:
            self.close()
            raise Ended(f"no result after {limit_s:g} s", late=True) from None
        except (OSError, EOFError, ValueError) as error:
            raise Ended(self._obituary()) from error
        except BaseException:  # an interrupted request's answer would be taken for the next one's
            self.close()
            raise
        if "error" in answer:
            kind = answer.get("kind")
            raise Refused(kind if kind in KINDS else "call", line(str(answer["error"])))
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing. May be called twice."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part or len(self._buffer) > _MOST:
                raise EOFError
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _obituary(self) -> str:
        """The reason why the process ended, with the end of what it said."""
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-_TAIL:].decode(errors="replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"Node.js ended with {how}{': ' + said[-1] if said else ''}"
