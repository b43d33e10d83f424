"""The functions on numbers that WebAssembly gets in place of a C library, against Python's."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import math
import subprocess
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from tesa.build.bare.library import library_objects
from tesa.build.bare.numeric import ONE
from tesa.targets.target import parse_target
from tests.node import require_node
from tests.support import require_system

INFINITE = [math.inf, -math.inf]
NEAR = [0.0, -0.0, 1e-300, -1e-9, 1e-5, 0.1, -0.3, 0.41, 0.5, -0.75, 0.99999, 1.0, -1.0]
WIDE = [*NEAR, 1.5, -2.0, 3.0, 3.2, -6.5, 10.0, 21.9, 22.1, -30.0, 88.0, 700.0, -745.0, 1000.0, *INFINITE]
ANGLES = [*NEAR, 1.5, -2.0, 3.14, 6.3, -100.0, 12345.678, 1e6]
ABOVE = [1.0, 1.0000001, 1.5, 2.0, 1e9, 1e300, math.inf]
LOGS = [0.0, 5e-324, 1e-310, 1e-300, 0.1, 0.70710678, 0.9999999, 1.0, 1.0000001, 1.4142136, 2.0, 8.0, 1e300, math.inf]

ARGUMENTS = dict.fromkeys(ONE, WIDE) | dict.fromkeys(("sin", "cos", "tan"), ANGLES) | {
    "asin": NEAR, "acos": NEAR, "atanh": NEAR[:-2], "acosh": ABOVE, "log": LOGS, "log1p": [*NEAR[:-1], 5.0, 1e300],
    "log2": LOGS, "log10": LOGS, "exp10": [0.0, 1.0, -2.5, 300.0, 400.0],
}  # fmt: skip
_ENDS = [0.0, 1.0, math.inf]
SIGNED = [sign * size for size in (*_ENDS, 0.5, 2.0, 3.0, 1e-9, 7.25) for sign in (1, -1)] + [math.nan]
PAIRS = {
    "pow": [(9.0, 0.5), (1e-5, -3.3), (10.0, 308.0), (10.0, 309.0), (-1.5, -3.0), (-1.0, 2.0**53), (-1.0, 2.0**53 - 1),
            *product(SIGNED, SIGNED)],
    "atan2": [*product(SIGNED, SIGNED)],
    "fmod": [(7.5, 2.0), (-7.5, 2.0), (1e300, 0.7), (5.0, 1e-3), (0.3, 0.7), (1.0, math.inf), (5.0, 0.0)],
    "hypot": [(3.0, 4.0), (1e300, 1e300), (1e-300, 1e-300), *product(SIGNED, SIGNED)],
    "fmin": [(1.0, 2.0), (2.0, 1.0), (math.nan, 1.0), (1.0, math.nan)],
    "fmax": [(1.0, 2.0), (2.0, 1.0), (math.nan, 1.0), (1.0, math.nan)],
}  # fmt: skip
SCRIPT = """
import { readFileSync } from "node:fs";
const [wasm, calls] = process.argv.slice(2);
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(wasm)), {});
const told = JSON.parse(readFileSync(calls, "utf8")).map(([name, words]) => exports[name](...words.map(Number)));
console.log(JSON.stringify(told.map((v) => (Object.is(v, -0) ? "-0" : String(v)))));
"""


def told(number: float) -> str:
    """A number as JavaScript reads it."""
    if math.isnan(number):
        return "NaN"
    return ("-" if number < 0 else "") + "Infinity" if math.isinf(number) else repr(number)


def wanted(name: str, arguments: Sequence[float]) -> float:
    """Python's value: infinities and no numbers where C has them."""
    numpy_names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh",
                   "atanh": "arctanh", "atan2": "arctan2", "pow": "power"}  # fmt: skip
    with np.errstate(all="ignore"):
        if name == "erf":
            return math.erf(*arguments)
        if name == "pow":  # NumPy takes another way for some exponents
            power = ctypes.CDLL(ctypes.util.find_library("m")).pow
            power.restype, power.argtypes = ctypes.c_double, [ctypes.c_double] * 2
            return float(power(*arguments))
        if name == "exp10":
            return float(np.power(10.0, *arguments))
        if name == "round":
            return float(math.copysign(math.floor(abs(arguments[0]) + 0.5), arguments[0]))
        return float(getattr(np, numpy_names.get(name, name))(*arguments))


def test_numbers_are_those_of_a_c_library(tmp_path: Path) -> None:
    require_node()
    target = parse_target("wasm32")
    calls = [(name, [x]) for name, numbers in ARGUMENTS.items() for x in (*numbers, math.nan)]
    calls += [("round", [x]) for x in (0.5, -0.5, 0.49, 2.5, -3.7)]
    calls += [(name, list(pair)) for name, pairs in PAIRS.items() for pair in pairs]
    names = sorted({name for name, _ in calls})
    files = []
    for number, content in enumerate(library_objects(target)):
        files.append(tmp_path / f"{number}.o")
        files[-1].write_bytes(content)
    exports = [f"--export={name}{end}" for name in names for end in ("", "f")]
    target.toolchain.link(files, tmp_path / "math.wasm", exports)
    (tmp_path / "calls.json").write_text(json.dumps([(name, [told(x) for x in words]) for name, words in calls]))
    (tmp_path / "run.mjs").write_text(SCRIPT)
    command = [require_system("node", "nodejs"), "run.mjs", "math.wasm", "calls.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    wrong = []
    for (name, words), text in zip(calls, json.loads(done.stdout), strict=True):
        found, right = float(text.replace("Infinity", "inf")), wanted(name, words)
        close = found == right or (math.isnan(found) and math.isnan(right))
        close = close or math.isclose(found, right, rel_tol=2e-13, abs_tol=5e-324)
        signs = found != 0 or name in ("fmin", "fmax") or math.copysign(1, found) == math.copysign(1, right)
        if not close or not signs:
            wrong.append(f"{name}({words}) = {found!r}, not {right!r}")
    assert not wrong, "\n".join(wrong)
