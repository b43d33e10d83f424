"""Kernels of WebAssembly in tests: many of them built, run in one process of Node.js, and compared with NumPy.

cases = [Case(problem, weight, "block", config), ...]
check_all(cases, "wasm32:relaxed")         each result against tesa.measure.reference; all that is wrong at once
outputs(cases, "wasm32")                   the results themselves
instructions(case, "wasm32:relaxed")       how often each instruction stands in a kernel's code

The arrays are aligned to their elements alone, stand between guards, and a result is filled with ones before.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.objects import build_objects, write_objects
from tesa.measure.node.runner import link_kernel
from tesa.measure.node.session import Place, Refused, Session
from tesa.measure.reference import Inputs, reference
from tesa.schedules.registry import find
from tesa.schedules.types import Code, Config, FloatArray, Problem
from tesa.targets.target import Target, parse_target
from tests.support import PATIENCE_S, require_system

TARGETS = ("wasm32:simd128", "wasm32:relaxed")
_GUARD = 64


@dataclass(frozen=True, eq=False)
class Case:
    """A kernel for a weight (m, k): a family with a configuration, or code, and the arrays to run it on."""

    problem: Problem
    weight: FloatArray
    family: str
    config: Config = field(default_factory=dict)
    code: Code | None = None
    inputs: Inputs | None = None

    def emitted(self, target: Target) -> Code:
        """The code, of the symbol "kernel"."""
        if self.code is not None:
            return self.code
        return find(self.family).emit(self.problem, self.weight, target.core, self.config, "kernel")

    @property
    def arrays(self) -> Inputs:
        """What the kernel runs on."""
        return Inputs.random(self.problem) if self.inputs is None else self.inputs

    def __str__(self) -> str:
        p = self.problem
        return f"{self.family} {dict(self.config)} {p.op} {p.m}x{p.k}x{p.n} {p.dtype} {p.epilogue}"


def require_node() -> None:
    """Skip the test where there is no Node.js or no linker; fail under CI."""
    require_system("node", "nodejs")
    if parse_target("wasm32").toolchain.found() is None:
        require_system("wasm-ld-22", "lld-22")


def check_all(cases: Sequence[Case], target: str) -> None:
    """Compare the result of every case with NumPy's; the failure names each that is wrong."""
    wrong = []
    for case, y in zip(cases, outputs(cases, target), strict=True):
        said = y if isinstance(y, str) else reference(case.problem, case.weight, case.arrays).difference(y)
        if said:
            wrong.append(f"{case}: {said}")
    assert not wrong, "\n".join(wrong)
    assert cases


def outputs(cases: Sequence[Case], target: str) -> list[NDArray[Any] | str]:
    """Y of every case in problem.y_shape, or what its kernel failed with."""
    require_node()
    wanted = parse_target(target)
    with TemporaryDirectory() as name, Session(wanted.features) as session:
        return [_output(case, wanted, session, Path(name)) for case in cases]


def instructions(case: Case, target: str) -> Counter[str]:
    """How often each instruction stands in a kernel: "f32x4.mul", "i32x4.dot_i16x8_s", "f32x4.relaxed_madd", "call"."""
    wanted = parse_target(target)
    with TemporaryDirectory() as name:
        objects = write_objects(build_objects("kernel", case.emitted(wanted), wanted), Path(name))
        return Counter(word for path in objects for word in _disassembled(path))


def _disassembled(path: Path) -> list[str]:
    tool = require_system("llvm-objdump-22", "llvm-22")
    features = "--mattr=+simd128,+relaxed-simd"
    text = subprocess.run([tool, "-d", features, str(path)], capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^\s*[0-9a-f]+:((?: [0-9a-f]{2})+)\s+(\S+)", text, re.MULTILINE)
    # this disassembler does not know the relaxed instructions by name
    return ["f32x4.relaxed_madd" if code.strip() == "fd 85 02" else word for code, word in lines]


def _output(case: Case, target: Target, session: Session, folder: Path) -> NDArray[Any] | str:
    code = case.emitted(target)
    path = folder / "kernel.wasm"
    link_kernel(target, write_objects(build_objects("kernel", code, target), folder), "kernel", path)
    inputs, places = case.arrays, []
    for index, array in enumerate((inputs.x, *code.constants, *inputs.extra)):
        file = folder / str(index)
        np.ascontiguousarray(array).tofile(file)
        places.append(Place(array.nbytes, str(file), array.itemsize))
    y, dtype = folder / "y", np.dtype(case.problem.output.dtype)
    places.append(Place(int(np.prod(case.problem.y_shape)) * dtype.itemsize, None, dtype.itemsize, _GUARD))
    try:
        module = session.load(path, "kernel", places, PATIENCE_S)
        status = session.call(module, PATIENCE_S)
    except Refused as error:
        return f"{error.kind}: {error}"
    session.ask({"do": "read", "id": module, "index": len(places) - 1, "file": str(y)})
    session.ask({"do": "drop", "id": module})
    room = np.fromfile(y, np.uint8)
    if status or not (room[:_GUARD] == 0xFF).all() or not (room[-_GUARD:] == 0xFF).all():
        return f"answers {status}" if status else "writes outside of its result"
    return room[_GUARD:-_GUARD].view(dtype).reshape(case.problem.y_shape)
