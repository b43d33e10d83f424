"""Programs of many kernels for 64-bit ARM, run once by qemu-user: numbers against NumPy, and exact counts.

    cases = [case("dense", problem, weight, target), case("block", problem, weight, target, {"rows": 8, ...})]
    check(cases, target)                              every result against the reference; all faults in one message
    check(cases, target, cpu="cortex-a53")            on an emulated CPU that has that CPU's instructions only
    for result in run(cases, target, counted=True):   y, and the instructions of one call
        result.count.instructions, result.count.products, result.count.loads, result.count.stores

case() takes a family, or any Code as a whole; made(name, code, inputs, shape, dtype) a Code whose result is no
Problem's. Kernels are called as bare functions (schedules/cpu/bare.py), their panels and pieces as main calls them.
Each array ends at memory that must not be touched, inputs must stay as they are, results must be written in full:
what breaks that fails by the name of its case, and the other cases still run. Parallel regions run all their tasks, one
after the other. See assembly.py for what the code is made of.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.compile import compile_unit
from tesa.measure.reference import Inputs, Reference, reference
from tesa.schedules.cpu.bare import PIPELINES, bare
from tesa.schedules.registry import find
from tesa.schedules.types import Assembly, Code, Config, FloatArray, Problem, Tir
from tesa.targets.target import Target
from tests.support import require_system

Arrays = Sequence[NDArray[Any]]

_HERE = Path(__file__).parent
_GCC, _QEMU, _LIBRARIES = "aarch64-linux-gnu-gcc", "qemu-aarch64", "/usr/aarch64-linux-gnu"
_PATIENCE_S = 600.0


@dataclass(frozen=True, eq=False)
class Case:
    """A kernel and the numbers that it runs on. inputs: its arguments but the last one, the result."""

    name: str
    code: Code
    inputs: Arrays
    shape: tuple[int, ...]
    dtype: str = "float32"
    wanted: Reference | None = None


@dataclass(frozen=True)
class Count:
    """Executed instructions of one call, with some twenty around it: all, vector multiply-adds and dot products, loads,
    stores (a pair is one)."""

    instructions: int
    products: int
    loads: int
    stores: int


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a case. fault: what went wrong, "" for nothing; count: where it was asked for."""

    y: NDArray[Any]
    fault: str = ""
    count: Count | None = None


def case(
    kernel: Code | str,
    problem: Problem,
    weight: FloatArray,
    target: Target,
    config: Config | None = None,
    seed: int = 0,
    name: str = "",
) -> Case:
    """A case on random numbers, with the right result. kernel: a Code, or the name of a family, which takes config,
    the first of its space by default."""
    said = kernel if isinstance(kernel, str) else "code"
    if isinstance(kernel, str):
        config = find(kernel).space(problem, weight, target.core)[0] if config is None else config
        kernel = find(kernel).emit(problem, weight, target.core, config, "kernel")
    inputs = Inputs.random(problem, seed)
    shown = name or f"{said} {dict(config or {})} {problem.op} {problem.m}x{problem.k}x{problem.n} {problem.dtype}"
    arrays = (inputs.x, *kernel.constants, *inputs.extra)
    wanted = reference(problem, weight, inputs)
    return Case(shown, kernel, arrays, tuple(problem.y_shape), problem.output.dtype, wanted)


def made(name: str, code: Code, inputs: Arrays, shape: tuple[int, ...], dtype: str = "float32") -> Case:
    """A case without a right result: run() gives what came out. inputs: constants too, as main takes them."""
    return Case(name, code, inputs, shape, dtype)


def check(cases: Sequence[Case], target: Target, cpu: str = "max") -> None:
    """Run all cases and fail, naming each that is wrong."""
    wrong = faults(cases, run(cases, target, cpu))
    assert not wrong, f"{len(wrong)} of {len(cases)} kernels are wrong on {cpu}:\n" + "\n".join(wrong)


def faults(cases: Sequence[Case], results: Sequence[Result]) -> list[str]:
    """A line for each case whose result is wrong."""
    found = []
    for one, result in zip(cases, results, strict=True):
        fault = result.fault or ("" if one.wanted is None else one.wanted.difference(result.y))
        found += [f"{one.name}: {fault}"] if fault else []
    return found


def run(cases: Sequence[Case], target: Target, cpu: str = "max", counted: bool = False) -> list[Result]:
    """Run all cases in one program on an emulated CPU. counted: with the instructions of one call each."""
    with tempfile.TemporaryDirectory() as folder:
        return execute(build(cases, target, Path(folder)), cases, cpu, counted)


def build(cases: Sequence[Case], target: Target, folder: Path) -> Path:
    """The program of the cases, and the file "inputs" beside it: what may be run on several CPUs."""
    gcc = require_system(_GCC, "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    objects = [path for number, one in enumerate(cases) for path in objects_of(one.code, target, folder, f"k{number}")]
    (folder / "table.c").write_text(_table(cases))
    with (folder / "inputs").open("wb") as file:
        for one in cases:
            for array in one.inputs:
                file.write(np.ascontiguousarray(array).tobytes())
    words = [gcc, "-O1", "-static", "-Wno-builtin-declaration-mismatch", "-o", str(folder / "program")]
    words += [str(_HERE / "main.c"), str(folder / "table.c"), *map(str, objects), "-lm"]
    subprocess.run(words, check=True)
    return folder / "program"


def execute(program: Path, cases: Sequence[Case], cpu: str = "max", counted: bool = False) -> list[Result]:
    """Run a program that build() has made of these cases."""
    results = program.parent / f"results-{cpu}"
    done = _emulated([str(program), str(program.parent / "inputs"), str(results)], program.parent, cpu, counted)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line[:1].isdigit())
    assert len(said) == len(cases), f"the program ended with {done.returncode}: {done.stderr[-2000:]}"
    counts = _counts(done.stderr)
    data, start, found = results.read_bytes(), 0, []
    for number, one in enumerate(cases):
        y = np.zeros(one.shape, one.dtype)
        y = np.frombuffer(data, y.dtype, y.size, start).reshape(one.shape)
        start += y.nbytes
        fault = said[str(number)]
        found.append(Result(y, "" if fault == "ok" else fault, counts.get(number)))
    return found


def counting(command: Sequence[str], folder: Path, cpu: str = "max") -> dict[int, Count]:
    """Run any program that sets marks, see count.c: what it has executed between them, by their numbers.

    folder: for the plugin.
    """
    done = _emulated(command, folder, cpu, True)
    assert done.returncode == 0, f"the program ended with {done.returncode}: {done.stderr[-2000:]}"
    return _counts(done.stderr)


def _emulated(command: Sequence[str], folder: Path, cpu: str, counted: bool) -> subprocess.CompletedProcess[str]:
    words = [require_system(_QEMU, "qemu-user"), "-L", _LIBRARIES, "-cpu", cpu]
    words += ["-plugin", str(_plugin(folder))] if counted else []
    return subprocess.run([*words, *command], capture_output=True, text=True, check=False, timeout=_PATIENCE_S)


def _counts(said: str) -> dict[int, Count]:
    """The counts in what the plugin has printed."""
    counts = {}
    for line in said.splitlines():
        if line.startswith("counted "):
            number, *figures = map(int, line.split()[1:])
            counts[number] = Count(*figures)
    return counts


def objects_of(code: Code, target: Target, folder: Path, symbol: str = "kernel") -> list[Path]:
    """The object files of a kernel as a bare function of that name. Panels keep their names, which a prefix tells
    apart: objcopy gives it."""
    paths = []
    for number, unit in enumerate(code.units(str(code.main.attrs["global_symbol"]))):
        path = folder / f"{symbol}-{number}.o"
        _compiled(unit if number else None, code, symbol, target).write_to_file(str(path), "o")
        paths.append(path)
    names = _defined(paths[1:])
    if names:
        options = [word for name in names for word in ("--redefine-sym", f"{name}={symbol}_{name}")]
        for path in paths:
            subprocess.run(["aarch64-linux-gnu-objcopy", *options, str(path)], check=True)
    return paths


def _compiled(unit: Tir | Assembly | None, code: Code, symbol: str, target: Target) -> Any:
    """TVM's module of a unit, or of main for None."""
    if unit is not None:
        return compile_unit(unit, target.tvm)
    mod = tvm.IRModule({tvm.ir.GlobalVar(symbol): bare(code.main, symbol, calls=False)})
    return tvm.compile(mod, target=tvm.target.Target(target.tvm), tir_pipeline=PIPELINES[code.pipeline]).mod


def _defined(paths: Sequence[Path]) -> list[str]:
    """The functions that these objects define for others."""
    if not paths:
        return []
    words = ["aarch64-linux-gnu-nm", "--defined-only", "--extern-only", *map(str, paths)]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({line.split()[2] for line in lines if len(line.split()) == 3 and line.split()[1] == "T"})


@cache
def _compiled_plugin() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "count.so"
        subprocess.run(
            [require_system("gcc", "gcc"), "-O2", "-shared", "-fPIC", "-o", str(path), str(_HERE / "count.c")],
            check=True,
        )
        return path.read_bytes()


def _plugin(folder: Path) -> Path:
    path = folder / "count.so"
    path.write_bytes(_compiled_plugin())
    return path


def _table(cases: Sequence[Case]) -> str:
    """C with the functions of the cases and where their arrays lie."""
    lines, rows, start = ["struct array { long start, bytes; };"], [], 0
    lines.append(
        "struct entry { const char* name; int (*call)(char**); int count, repeats; const struct array* arrays; };"
    )
    for number, one in enumerate(cases):
        arrays = []
        for array in one.inputs:
            arrays.append(f"{{{start}, {array.nbytes}}}")
            start += array.nbytes
        size = int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize
        arrays.append(f"{{-1, {size}}}")
        passed = ", ".join(f"a[{i}]" for i in range(len(arrays)))
        kinds = ", ".join(["char*"] * len(arrays))
        lines += [
            f"int k{number}({kinds});",
            f"static int call{number}(char** a) {{ return k{number}({passed}); }}",
            f"static const struct array arrays{number}[] = {{{', '.join(arrays)}}};",
        ]
        rows.append(f'{{"k{number}", call{number}, {len(arrays)}, 1, arrays{number}}},')
    return "\n".join(
        [*lines, "const struct entry cases[] = {", *rows, "};", f"const int case_count = {len(cases)};", ""]
    )
