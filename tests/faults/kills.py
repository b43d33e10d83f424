"""`python -m tests.faults.kills --count 200`: kill -9 at random moments of compile and tune, and look at what is left.

The main process alone is killed, at a random moment of a run; its children have to end by themselves, no file may be
half of one, no record that was there may be lost, and the next run, on the same files, has to come out right.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from tests.runtime.models import mlp
from tests.support import until

TESA = (sys.executable, "-m", "tesa")
COMPILE = ("compile", "model.onnx", "-o", "out/model.so", "--log", "logs", "--jobs", "2")
TUNE = ("tune", "model.onnx", "--log", "logs", "--trials", "4", "--mode", "random", "--jobs", "2")
_MARK = "TESA_TEST_FAMILY"
_END_S = 120.0  # for children to see that their parent is gone, on a busy machine
_OLD_S = 2 * 86400.0


@dataclass
class Place:
    """A folder with a model, a log, a cache and a place for temporary files, in which commands run."""

    folder: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        for name in ("out", "tmp", "cache", "home", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        onnx.save(mlp(), self.folder / "model.onnx")

    def start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Begin a command line of tesa."""
        env = {
            **os.environ, _MARK: self.mark, "TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1",
            "TESA_CACHE_DIR": str(self.folder / "cache"), "XDG_DATA_HOME": str(self.folder / "home"),
        }  # fmt: skip
        return subprocess.Popen(
            [*TESA, *words], cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, words: Sequence[str]) -> tuple[float, str]:
        """(seconds, what it said) of a command line that ends well."""
        begun, process = time.monotonic(), self.start(words)
        said = process.communicate()[0].decode(errors="replace")
        assert process.returncode == 0, f"tesa {' '.join(words)} ends with {process.returncode}: {said}"
        return time.monotonic() - begun, said

    def kill(self, words: Sequence[str], after_s: float) -> None:
        """Kill a command line after so many seconds, if it has not ended, and wait for its family."""
        process = self.start(words)
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        until(lambda: not self.family(), "the children end", _END_S)

    def family(self) -> list[int]:
        """The processes that any command of this place has started."""
        found, mark = [], f"{_MARK}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:  # it has ended, or is somebody else's
                    continue
        return found

    def records(self) -> list[str]:
        """The whole lines of the log. Only the last one may be cut off."""
        lines: list[str] = []
        for path in sorted((self.folder / "logs").glob("[!.]*.jsonl")):
            *whole, _ = path.read_bytes().split(b"\n")
            for number, line in enumerate(whole):
                try:
                    json.loads(line)
                except ValueError:  # a crash cut it short, and the next writer ended it
                    assert number, "a line is cut off, and nothing was before it"
                else:
                    lines.append(line.decode())
        return lines

    def check_files(self) -> None:
        """No file with a final name is half of one."""
        for path in (self.folder / "out").glob("[!.]*"):
            assert path.stat().st_size, f"{path} is empty"
            if path.suffix == ".json":
                json.loads(path.read_bytes())
        for path in (self.folder / "cache" / "objects").glob("*/[!.]*"):
            assert path.read_bytes().startswith(b"tesa-object-1\n"), f"{path} is half of an object"

    def check_next(self) -> None:
        """The next runs, on what is there now, come out right, and leave nothing of the killed ones."""
        for path in (self.folder / "tmp").rglob("*"):
            os.utime(path, times=(time.time() - _OLD_S,) * 2, follow_symlinks=False)
        for path in (self.folder / "tmp").iterdir():
            os.utime(path, times=(time.time() - _OLD_S,) * 2)
        self.run(COMPILE)
        self.run(("verify", "out/model.so", "--ref", "model.onnx"))
        assert sorted(path.name for path in (self.folder / "out").iterdir()) == ["model.json", "model.so"]
        assert list((self.folder / "tmp").glob("tesa-*")) == []


def kills(folder: Path, count: int, seed: int, every: int) -> None:
    """So many kills at random moments; after some of them the next run is looked at. Raises AssertionError."""
    rng, place = random.Random(seed), Place(folder)
    lasts = {words: place.run(words)[0] for words in (COMPILE, TUNE)}
    place.check_next()
    for number in range(count):
        words = rng.choice((COMPILE, TUNE))
        if number % every == 0:  # from the beginning, with everything to build
            for path in (place.folder / "cache", place.folder / "logs"):
                subprocess.run(["rm", "-rf", str(path)], check=True)
        before, moment = place.records(), rng.uniform(0, 1.05 * lasts[words])
        place.kill(words, moment)
        place.check_files()
        assert set(before) <= set(place.records()), f"kill {number}: a record is lost"
        if number % every == every - 1 or number == count - 1:
            place.check_next()
        print(f"kill {number + 1} of {count}: {words[0]} after {moment:.1f} s", flush=True)


def main() -> None:
    """Run as many kills as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--every", type=int, default=4, help="kills between two looks at the next run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("out/kills"))
    args = parser.parse_args()
    kills(args.folder, args.count, args.seed, args.every)


if __name__ == "__main__":
    main()
