"""How near int8 kernels for few columns come to the speed of memory: what must be read, by its bandwidth.

    python -m benchmarks.few_columns [--size 4096] [--columns 1 4] [--zeros 0.5 0.7 0.9] [--copies 24] [--bits 8 4]

A kernel for one column uses each weight once, so that its time is that of reading the weight, a byte for each weight
that is left (half a byte of 4-bit codes) and a bit an element for where it lies: that much any format has to read, and
`must` says how many bytes it is. Each kernel is exported as a library, once for each copy, and the copies are called in
turn, so that the weights come from memory as in a large network. The bandwidth is that of a library that only reads,
made and called in the same way, of as many bytes: the faster of one that reads them in order and one that reads in four
places at a time. A time is the least of each copy, the median over the copies. Results are held against NumPy first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tesa
from benchmarks.tables import markdown
from tesa.build.objects import build_objects, write_objects
from tesa.build.package import ENTRY, package
from tesa.schedules.types import Code
from tesa.targets.target import Target, parse_target

FAMILIES = ("gathered", "bitmap", "permuted")


def weight_of(size: int, zeros: float, bits: int, seed: int = 0) -> NDArray[np.int64]:
    """A random square matrix of codes of so many bits, of which that share is 0."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = rng.integers(low, high, (size, size))
    return np.where(rng.random((size, size)) < zeros, 0, np.where(codes < 0, codes, codes + 1))


def must(weight: NDArray[np.int64], bits: int) -> float:
    """Bytes that any format has to read: those of the codes without zeros, and a bit an element."""
    return float(np.count_nonzero(weight) * bits / 8 + weight.size / 8)


def timed(calls: Sequence[Callable[[], object]], seconds: float = 0.5) -> float:
    """Milliseconds of a call: the least of each, the median over them; they are called in turn."""
    best = [float("inf")] * len(calls)
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < end:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
        rounds += 1
    return median(best) * 1e3


def loaded(path: Path, copies: int) -> list[Any]:
    """The function of a library, from so many copies of it."""
    import tvm

    found = []
    for i in range(copies):
        copy = path.with_name(f"{path.stem}{i}.so")
        copy.write_bytes(path.read_bytes())
        found.append(tvm.runtime.load_module(str(copy))[ENTRY])
    return found


def reader(nbytes: int, places: int, path: Path, target: Target) -> None:
    """Write a library that only reads so many bytes, in some places at a time, as kernels are written."""
    from tvm.tirx.script import builder as T

    from tesa.schedules.cpu.loops import flat, function, parameter, serial, unrolled
    from tesa.schedules.cpu.narrow import prefetch

    lines = nbytes // 64 // (4 * places) * 4
    with function("reader") as builder:
        parameter("X", (16,), "int32")
        data, y = parameter("C0", (lines * places * 16,), "int32"), parameter("Y", (16,), "int32")
        data, y = flat(data), flat(y)
        lane = T.ramp(0, 1, 16)
        acc = T.alloc_buffer((4 * places, 16), "int32", scope="local", align=64)
        with unrolled("q", 4 * places) as q:
            T.buffer_store(acc, T.broadcast(T.int32(0), 16), [q, lane])
        with serial("i", lines // 4) as i:
            for place in range(places):
                for line in range(4):
                    at = ((place * lines) + i * 4 + line) * 16
                    prefetch(data, at + 4096 // 4)
                    q = place * 4 + line
                    T.buffer_store(acc, acc[q, lane] ^ data[T.ramp(at, 1, 16)], [q, lane])
        total = acc[0, lane]
        for q in range(1, 4 * places):
            total = total ^ acc[q, lane]
        T.buffer_store(y, total, [lane])
    values = np.random.default_rng(0).integers(0, 1 << 30, lines * places * 16).astype(np.int32)
    objects = build_objects("reader", Code(builder.get(), (values,)), target)
    package(path, write_objects(objects, path.parent), "reader", (values,), ("X", "Y"), target)


def bandwidth(nbytes: int, copies: int, target: Target) -> float:
    """Bytes a millisecond that are read, the faster way."""
    import tvm

    best = 0.0
    for places in (1, 4):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "reader.so"
            reader(nbytes, places, path, target)
            x, y = (tvm.runtime.tensor(np.zeros(16, np.int32)) for _ in range(2))
            calls = [partial(function, x, y) for function in loaded(path, copies)]
            best = max(best, nbytes / timed(calls))
    return best


def kernels(
    weight: NDArray[np.int64], n: int, families: Sequence[str], target: Target
) -> list[tuple[str, tesa.kernels.compiled.Kernel]]:
    """The best kernel of each family that offers one, by measured time."""
    found = []
    for family in families:
        try:
            found.append((family, tesa.kernel(weight, n=n, dtype="int8", target=target, family=family)))
        except tesa.errors.UsageError as error:
            if "family" not in str(error):
                raise
    return found


def measured(kernel: Any, weight: NDArray[np.int64], n: int, copies: int) -> float:
    """Milliseconds of a kernel from its copies, held against NumPy first."""
    import tvm

    x = np.random.default_rng(1).integers(0, 256, (weight.shape[1], n)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        functions = loaded(kernel.save(Path(folder) / "k.so"), copies)
        inside = tvm.runtime.tensor(x)
        y = tvm.runtime.tensor(np.zeros((weight.shape[0], n), np.int32))
        for function in functions:
            function(inside, y)
            np.testing.assert_array_equal(y.numpy(), weight @ x.astype(np.int64))
        return timed([partial(function, inside, y) for function in functions])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--columns", type=int, nargs="+", default=[1])
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.5, 0.7, 0.9])
    parser.add_argument("--bits", type=int, nargs="+", default=[8])
    parser.add_argument("--copies", type=int, default=24)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    given = parser.parse_args(arguments)
    target, rows = parse_target(None), []
    for bits in given.bits:
        for zeros in given.zeros:
            weight = weight_of(given.size, zeros, bits)
            needed = must(weight, bits)
            speed = bandwidth(int(needed), given.copies, target)
            for n in given.columns:
                for family, kernel in kernels(weight, n, given.families, target):
                    ms = measured(kernel, weight, n, given.copies)
                    config = ", ".join(f"{name} {value}" for name, value in kernel.plan.parts[0].config.items())
                    row = [str(bits), f"{zeros:.0%}", str(n), family, config, f"{ms:.4f}"]
                    rows.append([*row, f"{needed / ms / 1e6:.1f}", f"{speed / 1e6:.1f}", f"{needed / ms / speed:.0%}"])
    print(markdown(["bits", "zeros", "n", "family", "config", "ms", "GB/s of must", "GB/s read", "share"], rows))


if __name__ == "__main__":
    main()
