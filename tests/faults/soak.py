"""`python -m tests.faults.soak --minutes 60`: a process that serves models while compiles and tunes work beside it.

Four threads call three models and compare every result. Meanwhile processes compile and tune on one log and one cache,
also on devices of which one dies again and again. Nothing of what was measured may be lost, no call may be wrong, and
neither the memory nor the open files of the serving process may grow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tesa.models import digits_path
from tesa.runtime import Model, load
from tests.faults.kills import Place
from tests.measure.remote.park import KEY, Park, two_servers
from tests.runtime.models import convolutions, mlp

CALLERS = 4
GROWTH = 64 << 20  # bytes of memory that allocators may keep, however long it runs
_SETTLED = 0.3  # of the time: what is made once has been made then
_DEATH_S = 20.0  # between two deaths of a device

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Soak:
    """What runs until `until`, and what it counted. rest_s: of a thread between two turns; errors: of any thread; the
    first one ends the soak."""

    place: Place
    until: float
    rest_s: float = 0.01
    calls: int = 0
    jobs: int = 0
    measured: int = 0
    deaths: int = 0
    errors: list[BaseException] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        """True where nothing new is begun."""
        return bool(self.errors) or time.monotonic() > self.until

    def begin(self, work: Callable[[], None]) -> threading.Thread:
        """Do the work in a thread, again and again until it is over."""

        def loop() -> None:
            try:
                while not self.over:
                    work()
                    time.sleep(self.rest_s)  # the others need a core as well
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        return thread

    def count(self, **more: int) -> None:
        """Add to what was counted."""
        with self.lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)


def soak(folder: Path, seconds: float, say: Callable[[str], None] = lambda _: None, rest_s: float = 0.01) -> Soak:
    """Run it for so many seconds. rest_s: of each thread between two turns, such as 50 calls.

    Raises AssertionError, or what the first thread that failed raised.
    """
    place = Place(folder)
    models = [_served(place, name) for name in ("mlp", "convolutions", "digits")]
    with ExitStack() as stack:
        park = stack.enter_context(two_servers(folder / "home"))
        state = Soak(place, time.monotonic() + seconds, rest_s)
        begun = time.monotonic()
        threads = [state.begin(_caller(state, models, seed)) for seed in range(CALLERS)]
        threads += [state.begin(_jobs(state, park)), state.begin(_deaths(state, park))]
        settled = (0, 0)
        for turn in itertools.count():
            time.sleep(min(1.0, seconds / 20))
            if not settled[0] and time.monotonic() - begun > _SETTLED * seconds:
                settled = _held()
            if turn % 60 == 59:
                memory, files = _held()
                say(f"{time.monotonic() - begun:.0f} s: {_counts(state)}, {memory >> 20} MB, {files} files")
            if state.over:
                break
        held = _held()
        for thread in threads:
            thread.join(600)
            assert not thread.is_alive(), "a thread does not come to its end"
    for error in state.errors:
        raise error
    _check(state, settled, held)
    before, after = (f"{memory >> 20} MB and {files} files" for memory, files in (settled, held))
    say(f"held {before} after {_SETTLED:.0%} of the time, {after} at its end")
    return state


def _check(state: Soak, settled: tuple[int, int], held: tuple[int, int]) -> None:
    assert state.calls
    assert state.jobs
    assert held[0] - settled[0] < GROWTH, f"memory grew from {settled[0] >> 20} to {held[0] >> 20} MB"
    assert held[1] <= settled[1] + CALLERS, f"open files grew from {settled[1]} to {held[1]}"
    assert not state.place.family()
    lines = [json.loads(line) for line in state.place.records()]
    records = [line for line in lines if "task" in line]
    assert len(records) >= state.measured, f"{state.measured} were measured, and the log has {len(records)}"
    for path in (state.place.folder / "logs").glob("[!.]*.jsonl"):
        assert all(json.loads(line) for line in path.read_bytes().splitlines()), "a line is torn"


def _served(place: Place, name: str) -> tuple[Model, Arrays, Arrays]:
    """A compiled model with inputs and what it answers."""
    path = place.folder / f"{name}.onnx"
    if name == "digits":
        path.write_bytes(digits_path().read_bytes())
    else:
        onnx.save({"mlp": mlp, "convolutions": convolutions}[name](), path)
    place.run(("compile", path.name, "-o", f"{name}.so", "--no-measure", "--jobs", "2"))
    model, rng = load(place.folder / f"{name}.so"), np.random.default_rng(0)
    inputs = {info.name: rng.standard_normal(info.shape).astype(info.dtype) for info in model.inputs}
    return model, inputs, {name: array.copy() for name, array in model(inputs).items()}


def _caller(state: Soak, models: list[tuple[Model, Arrays, Arrays]], seed: int) -> Callable[[], None]:
    rng = np.random.default_rng(seed)

    def call() -> None:
        for model, inputs, wanted in (models[i] for i in rng.integers(0, len(models), 50)):
            for name, array in model(inputs).items():
                np.testing.assert_array_equal(array, wanted[name])
        state.count(calls=50)

    return call


def _jobs(state: Soak, park: Park) -> Callable[[], None]:
    """A compile and two tunes at a time, on one log and one cache: here, and on devices."""
    numbers = itertools.count()

    def run(words: tuple[str, ...]) -> None:
        data = json.loads(_output(state.place, words))
        state.count(jobs=1, measured=int(data.get("measured", 0)))

    def turn() -> None:
        number = next(numbers)
        onnx.save(mlp(rows=4 + number % 64), state.place.folder / f"job{number}.onnx")
        common = ("--log", "logs", "--jobs", "1", "--json")
        model = f"job{number}.onnx"
        remote = ("--rpc", f"127.0.0.1:{park.port}", "--key", KEY)
        tune = ("tune", model, *common, "--trials", "2", "--mode", "random")
        commands = [("compile", model, "-o", "out/model.so", *common), tune, (*tune, *remote, "--seed", "1")]
        errors: list[BaseException] = []

        def one(words: tuple[str, ...]) -> None:
            try:
                run(words)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=one, args=(words,)) for words in commands]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors:
            raise error

    return turn


def _output(place: Place, words: tuple[str, ...]) -> str:
    """What a command line that ends well writes: its last JSON document."""
    said = place.run(words)[1]
    return said[said.index("{") :]


def _deaths(state: Soak, park: Park) -> Callable[[], None]:
    """One of the two devices dies, and comes back."""

    def die() -> None:
        until = time.monotonic() + _DEATH_S
        while time.monotonic() < until and not state.over:
            time.sleep(0.2)
        if state.over:
            return
        park.programs[-1].end()
        park.programs.pop()
        park.server()
        state.count(deaths=1)

    return die


def _held() -> tuple[int, int]:
    """Bytes of memory, and open files, of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def _counts(state: Soak) -> str:
    return f"{state.calls} calls, {state.jobs} jobs, {state.measured} measured, {state.deaths} deaths"


def main() -> None:
    """Run as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=Path("out/soak"))
    args = parser.parse_args()
    done = soak(args.folder.resolve(), args.minutes * 60, lambda text: print(text, flush=True))
    print(_counts(done), file=sys.stderr)


if __name__ == "__main__":
    main()
