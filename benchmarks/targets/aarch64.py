"""Executed instructions of kernels for 64-bit ARM, and how near their inner loops come to the bound of multiply-adds.

    python -m benchmarks.targets.aarch64 [--cpu cortex-a76] [--quick]

Counts are exact: qemu-user runs each kernel on random numbers, and a plugin counts. Each kernel is the one that tesa's
estimates choose without a device, and its result is compared with NumPy; whole networks are counted beside (whole.py).
llvm-mca says how many cycles inner loops take by LLVM's model of a CPU.
The table goes to benchmarks/results/aarch64.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tables import markdown
from benchmarks.targets.whole import counted, networks
from tesa.schedules.registry import families, find
from tesa.schedules.types import Config, Epilogue, FloatArray, Output, Problem
from tesa.targets.target import Target, parse_target
from tests.emulated.assembly import Listing, listing
from tests.emulated.programs import Case, case, objects_of, run

RESULT = Path(__file__).parents[1] / "results" / "aarch64.md"
SHAPES = ((512, 512, 196), (128, 128, 3136), (1024, 1024, 49))
PATTERNS = (
    ("dense", 0.0), ("16x1", 0.3), ("4x4", 0.3), ("16x1", 0.7), ("unstructured", 0.7), ("unstructured", 0.9),
    ("16x1", 0.9),
)  # fmt: skip
INTEGERS = (("dense", 0.0), ("1x4", 0.9))
PEERS = {"onnxruntime 1.22.1": (16.68, 16.87, 18.52), "XNNPACK (tflite-runtime 2.14)": (16.36, 16.65, 17.78)}
"""Known counts in millions, of the wheels for 64-bit ARM under the same emulator; this command does not run them."""

BOUNDS = {"neoverse-n1": 2.0, "cortex-a55": 1.0}
"""Multiply-adds of 128 bits in a cycle. Cortex-A55 has two pipes of 64 bits; LLVM's model lets it start more."""

REMARK = "Above 100 %: LLVM's model of Cortex-A55 starts more multiply-adds of 128 bits than the CPU has pipes for."

MISSED = """Shares that are above what a reader may expect from the zeros, and what their instructions are:

- **Scattered weights on 128x128x3136, 90 %**: 2743 instructions for each tile of four columns. 1638 are products; bias,
  relu and stores take 128 each, one for each row, whatever the weight; a load brings eight weights (205) or two columns
  of X (279, for five panels of 26 rows); packing the tile takes 191. With two vectors a tile, weights and stores halve,
  and columns serve half as many rows: 2870. The panels hold 26 of 32 registers.
- **Scattered weights on 128x128x3136, 70 %**: 4915 of 6466 instructions of a tile are products, 614 loads of weights;
  the rest is that of 90 %.
- **Scattered weights on 1024x1024x49, 70 %**: 49 columns are twelve vectors and one column. Panels compute thirteen
  vectors, a twelfth more; the dense kernel has a form for the column that is over.
- **int8 on 128x128x3136**: with k = 128 what comes after the sums counts as much as they do: 15 instructions for four
  sums become codes (1.5 of 2.2 million for blocks of 1x4 at 90 %), and X is put together in groups of four, 8 for
  each 16 bytes."""
"""What the table does not tell: where the instructions are that zeros do not save."""

_BLOCKS = {"16x1": (16, 1), "4x4": (4, 4), "1x4": (1, 4), "unstructured": (1, 1)}
_PANEL = 150  # multiply-adds of a loop from which on it is a panel that is written out


@dataclass(frozen=True)
class Row:
    """A kernel: what it computes, what was chosen, millions of instructions and of multiply-adds; wrong: in words."""

    shape: tuple[int, int, int]
    pattern: str
    kernel: str
    instructions: float
    products: float
    wrong: str


def weight(m: int, k: int, pattern: str, sparsity: float, integers: bool = False) -> FloatArray:
    """Random numbers, of which so many blocks are zero."""
    rng = np.random.default_rng(0)
    values = rng.integers(-127, 128, (m, k)) if integers else rng.standard_normal((m, k))
    if pattern != "dense":
        rows, columns = _BLOCKS[pattern]
        count = (m // rows) * (k // columns)
        keep = np.zeros(count, bool)
        keep[rng.permutation(count)[: round(count * (1 - sparsity))]] = True
        values = values * np.repeat(np.repeat(keep.reshape(m // rows, k // columns), rows, 0), columns, 1)
    return values.astype(np.float32)


def layer(m: int, k: int, n: int, integers: bool = False) -> Problem:
    """A 1x1 convolution with bias and relu."""
    epilogue = Epilogue(bias=True, activation="relu", scale=integers)
    more = {"dtype": "int8", "output": Output("uint8", 0.05, 0)} if integers else {}
    return Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=epilogue, **more)


def choice(problem: Problem, values: FloatArray, target: Target, dense: bool) -> tuple[str, Config]:
    """The family and configuration that the estimates like best; dense: of the family "dense" alone."""
    found = []
    for family in [find("dense")] if dense else families(target.kind):
        for config in family.space(problem, values, target.core):
            found.append((family.estimate(problem, values, target.core, config), family.name, config))
    _, name, config = min(found, key=lambda item: item[0])
    return name, config


def chosen(shape: tuple[int, int, int], pattern: str, sparsity: float, target: Target, integers: bool) -> Case:
    """The case of a shape and a pattern."""
    problem, values = layer(*shape, integers), weight(*shape[:2], pattern, sparsity, integers)
    family, config = choice(problem, values, target, pattern == "dense")
    return case(family, problem, values, target, config, name=f"{family} {_short(config)}")


def _short(config: Config) -> str:
    return " ".join(f"{key}={value}" for key, value in config.items())


def counts(target: Target, shapes: Sequence[tuple[int, int, int]]) -> list[Row]:
    """The instructions of one call of each kernel."""
    rows: list[Row] = []
    for shape in shapes:
        kinds = [(*kind, False) for kind in PATTERNS] + [(*kind, True) for kind in INTEGERS]
        made = [chosen(shape, *kind[:2], target, kind[2]) for kind in kinds]
        for kind, one, result in zip(kinds, made, run(made, target, counted=True), strict=True):
            assert result.count is not None
            assert one.wanted is not None
            pattern = ("int8 " if kind[2] else "") + kind[0] + (f" {kind[1]:.0%}" if kind[1] else "")
            wrong = result.fault or one.wanted.difference(result.y)
            rows.append(
                Row(shape, pattern, one.name, result.count.instructions / 1e6, result.count.products / 1e6, wrong)
            )
            print(rows[-1], flush=True)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Millions of instructions by pattern and shape, and their share of tesa's own dense kernel."""
    shapes = list(dict.fromkeys(row.shape for row in rows))
    dense = {row.shape: row.instructions for row in rows if row.pattern == "dense"}
    lines = []
    for pattern in dict.fromkeys(row.pattern for row in rows):
        cells = [next(row for row in rows if (row.shape, row.pattern) == (shape, pattern)) for shape in shapes]
        lines.append(
            [pattern, *(f"{c.instructions:.2f} ({c.instructions / dense[c.shape]:.3f}) {c.kernel}" for c in cells)]
        )
    for name, known in PEERS.items():
        cells = [f"{known[SHAPES.index(shape)]:.2f}" for shape in shapes]
        lines.append([f"{name}, dense, known", *cells])
    return markdown(["", *("x".join(map(str, shape)) for shape in shapes)], lines)


def whole(target: Target) -> str:
    """Millions of instructions of a call of whole networks. SystemExit where one is wrong."""
    lines = []
    for network in networks():
        (sparse, wrong), (dense, other) = (counted(p, network.feeds, target) for p in (network.sparse, network.dense))
        if wrong or other:
            raise SystemExit(f"{network.name}: {wrong or other}")
        lines.append([network.name, f"{sparse:.2f}", f"{dense:.2f}", f"{sparse / dense:.3f}"])
        print(lines[-1], flush=True)
    return markdown(["whole network", "sparse", "dense", "share"], lines)


def share(code: Listing, cpu: str) -> float:
    """Multiply-adds of the inner loops in a cycle by LLVM's model, over the most that the CPU starts.

    Of looped code the busiest loop counts; of panels that are written out, which loop over tiles, all together.
    """
    loops = [loop for loop in code.loops() if loop.count("fm(la|ul)")]
    panels = [loop for loop in loops if loop.count("fmla") > _PANEL]
    chosen = panels or [max(loops, key=lambda loop: loop.count("fmla"))]
    cycles = sum(_cycles(loop.lines, cpu, 10 if panels else 100) for loop in chosen)
    return sum(loop.count("fm(la|ul) v") for loop in chosen) / BOUNDS[cpu] / cycles


def _cycles(lines: Sequence[str], cpu: str, turns: int) -> float:
    """Cycles of one turn of a loop."""
    text = "\n".join(re.sub(r"0x[0-9a-f]+$", "loop", line) if line.startswith("b.") else line for line in lines)
    words = ["llvm-mca-22", "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={turns}"]
    done = subprocess.run(words, input=f"loop:\n{text}\n", capture_output=True, text=True, check=True)
    return int(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / turns  # type: ignore[index]


def shares() -> str:
    """Each CPU's share of its bound for dense, blocks of 16x1 at 30 %, and unstructured at 90 %, code made for it."""
    lines = []
    for pattern, sparsity in (("dense", 0.0), ("16x1", 0.3), ("unstructured", 0.9)):
        cells = []
        for cpu in BOUNDS:
            target = parse_target(f"aarch64:{cpu}")
            one = chosen(SHAPES[0], pattern, sparsity, target, False)
            with tempfile.TemporaryDirectory() as folder:
                cells.append(f"{share(listing(objects_of(one.code, target, Path(folder))), cpu):.0%} {one.name}")
        lines.append([f"{pattern} {sparsity:.0%}", *cells])
    return markdown(["share of the bound, llvm-mca", *BOUNDS], lines)


def main() -> None:
    """Count, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", default="cortex-a76", help="whose code is counted")
    parser.add_argument("--quick", action="store_true", help="the first shape alone, and no file")
    options = parser.parse_args()
    rows = counts(parse_target(f"aarch64:{options.cpu}"), SHAPES[:1] if options.quick else SHAPES)
    wrong = [f"{row.shape} {row.pattern} {row.kernel}: {row.wrong}" for row in rows if row.wrong]
    if wrong:
        raise SystemExit("\n".join(wrong))
    text = f"Millions of instructions of a call, code for {options.cpu} (share of tesa's own dense kernel)\n\n"
    text += f"{table(rows)}\n\n{shares()}\n\n{REMARK}\n"
    if not options.quick:
        text += f"\n{whole(parse_target(f'aarch64:{options.cpu}'))}\n\n{MISSED}\n"
    print(text)
    if not options.quick:
        RESULT.write_text(f"# Kernels for 64-bit ARM\n\n`python -m benchmarks.targets.aarch64`\n\n{text}")


if __name__ == "__main__":
    main()
