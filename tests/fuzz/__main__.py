"""`python -m tests.fuzz --count 100000 --seed 0`: mutants of models, or with --formats of all other files.

What was bad is written into a folder.

Ends with 1 if a mutant was bad. A finding belongs into tests/fuzz/corpus, which the tests run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.harness import Harness, Tally
from tests.fuzz.mutate import mutant
from tests.fuzz.seeds import seeds


def mutants(start: int, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the mutants of a run."""
    return ((f"{seed}-{number}", mutant(seeds(), number, seed)) for number in range(start, start + count))


def main() -> int:
    """Run the mutants that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--target", default="tests.fuzz.models:check", help="module:function that is tried")
    parser.add_argument("--formats", action="store_true", help="files of all formats but models")
    args = parser.parse_args()
    target, tried, suffix = args.target, mutants(args.start, args.count, args.seed), ".onnx"
    if args.formats:
        from tests.fuzz import damage
        from tests.fuzz.files import files

        target, suffix = "tests.fuzz.formats:check", ".bin"
        tried = damage.mutants(files(), args.start, args.count, args.seed)
    tally, begun = Tally(args.folder, suffix), time.monotonic()
    with Harness(target) as harness:
        for done, (name, data, outcome) in enumerate(harness.run_all(tried), 1):
            tally.add(name, data, outcome)
            if done % 500 == 0 or done == args.count:
                print(f"{done} in {time.monotonic() - begun:.0f} s: {tally}", flush=True)
    return int(any(outcome in (tally.counts or ()) for outcome in ("crash", "hang", "memory", "defect")))


if __name__ == "__main__":
    sys.exit(main())
