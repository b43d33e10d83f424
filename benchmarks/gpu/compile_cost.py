"""The cost of compiling unrolled kernels for GPUs: `python -m benchmarks.gpu.compile_cost [--size 512]`.

Every configuration is emitted and assembled on one CPU, with nothing taken from the cache. Prints seconds of CPU time
of this process and the assemblers that it starts, which do not depend on what else the machine does as seconds of a
clock do; milliseconds for each 1000 multiply-adds; and the bytes of the code for each non-zero, less 64 for each row.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tesa.schedules.gpu  # noqa: F401  (registers the families)
from tesa.build.gpu.images import build_images
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Problem
from tesa.targets.target import parse_target

Row = dict[str, Any]

ROW_BYTES = 64


def configs(target: str) -> Iterator[Config]:
    """Heights of panels with one group and with four, and X in registers or in the stage."""
    stages = (0, 1) if target.startswith("cuda") else (0,)
    for rows in (32, 64, 128):
        for groups in (1, 4):
            yield from ({"rows": rows, "threads": 64, "groups": groups, "stage": stage} for stage in stages)


def cost(size: int, sparsity: float, target: str, config: Config | None = None) -> Row:
    """Compile one kernel of size x size for size columns. config: what the static model takes where none is given."""
    where, family = parse_target(target), find("unrolled", "gpu")
    assert where.gpu is not None
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((size, size), dtype=np.float32)
    weight[rng.random(weight.shape) < sparsity] = 0
    problem = Problem("linear", size, size, size, (1, size, size), (1, size, size))
    chosen = config or family.space(problem, weight, where.gpu)[0]
    began = _seconds()
    code = family.emit(problem, weight, where.gpu, chosen, "k")
    product = build_images("k", code, where, None, 1)
    seconds, nonzeros = _seconds() - began, int(np.count_nonzero(weight))
    size_of = sum(len(images[0].content) for images in product.modules)
    return {
        "target": target, "size": size, "sparsity": sparsity, "config": chosen, "nonzeros": nonzeros,
        "cpu_s": seconds, "ms_per_1000": 1e6 * seconds / nonzeros, "modules": len(product.modules),
        "registers": max((e.registers for images in product.modules for e in images[0].entries), default=0),
        "bytes_per_nonzero": (size_of - ROW_BYTES * size) / nonzeros,
    }  # fmt: skip


def _seconds() -> float:
    """CPU time so far of this process and the ended ones that it has started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(words: list[str] | None = None) -> int:
    """Print a line for each configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the weight")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--targets", default="cuda:sm_75,cuda:sm_80,cuda:sm_90,rocm:gfx90a,rocm:gfx1100")
    parser.add_argument("--chosen", action="store_true", help="only the configuration that the static model takes")
    parser.add_argument("--json", type=Path, help="append a line for each to this file")
    given = parser.parse_args(words)
    for target in given.targets.split(","):
        for config in (None,) if given.chosen else configs(target):
            row = cost(given.size, given.sparsity, target, config)
            print(
                f"{target} {row['config']}: {row['cpu_s']:.2f} s of CPU, {row['ms_per_1000']:.0f} ms for 1000, "
                f"{row['registers']} registers, {row['bytes_per_nonzero']:.1f} bytes a non-zero", flush=True,
            )  # fmt: skip
            if given.json:
                with given.json.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
