"""The two commands: `prepare` anywhere, `run` on a machine with a GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.gpu.cases import cases
from benchmarks.gpu.prepare import prepare
from benchmarks.gpu.run import run

_GROUPS = ("sweep", "square", "sparsert", "bert", "blocks", "skinny", "mlp", "networks")


def main(words: list[str] | None = None) -> int:
    """0 where every result is right and everything ran."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("what", choices=("prepare", "run"))
    parser.add_argument("--folder", type=Path, default=Path("out/gpu"))
    parser.add_argument("--target", default="cuda:sm_90", help="of prepare: what to build for")
    parser.add_argument("--only", choices=_GROUPS, default="", help="one group of cases")
    parser.add_argument("--small", action="store_true", help="of prepare: a fraction of every size, to try all of it")
    parser.add_argument("-x", "--out", type=Path, help="of run: lines of JSON; what is there is not run again")
    given = parser.parse_args(words)
    if given.what == "run":
        rows = run(given.folder, given.out, given.only)
        return int(any("error" in row for row in rows))
    sizes = None if given.only in ("", "sweep") else ()
    networks = None if given.only in ("", "networks") else ()
    options = {name: one for name, one in (("sizes", sizes), ("networks", networks)) if one is not None}
    prepare(given.folder, cases(given.only), given.target, small=given.small, **options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
