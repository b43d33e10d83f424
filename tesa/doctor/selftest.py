"""Tries out the pair of TVM and its FFI: `python -m tesa.doctor.selftest` prints one JSON line for each step.

It is run as a child process by tesa.doctor.checks, because a pair that does not fit together ends the process with a
segmentation fault. The step that was due when the output ends is then the one to blame.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tesa.base.scratch import Scratch
from tesa.targets.toolchain import NATIVE

STEPS = ("import", "save and load TIR", "build and export", "load and run")
_SIZE = 67  # no multiple of any vector


def main() -> int:
    """Run the steps in order up to the first that fails. Returns 0 if all held."""
    state: dict[str, Any] = {}
    works: tuple[Callable[[dict[str, Any]], str], ...] = (_import, _round_trip, _export, _run)
    with Scratch() as folder:
        state["folder"] = Path(folder)
        for step, work in zip(STEPS, works, strict=True):
            try:
                line: dict[str, Any] = {"step": step, "ok": True, "text": work(state)}
            except Exception as error:
                line = {"step": step, "ok": False, "text": f"{type(error).__name__}: {error}"}
            print(json.dumps(line), flush=True)
            if not line["ok"]:
                return 1
    return 0


def _import(state: dict[str, Any]) -> str:
    import tvm
    from tvm import te
    from tvm.target import codegen

    x = te.placeholder((_SIZE,), "float32", name="x")
    y = te.compute((_SIZE,), lambda i: x[i] * te.const(2, "float32") + te.const(1, "float32"), name="y")
    kernel = te.create_prim_func([x, y]).with_attr("global_symbol", "selftest")
    state["module"] = tvm.IRModule({"selftest": kernel})
    state["cpu"] = str(codegen.llvm_get_system_cpu())
    return f"LLVM {codegen.llvm_version_major()}, CPU {state['cpu']}"


def _round_trip(state: dict[str, Any]) -> str:
    import tvm

    text = tvm.ir.save_json(state["module"])
    tvm.ir.assert_structural_equal(tvm.ir.load_json(text), state["module"])
    return f"{len(text)} characters of JSON and back"


def _export(state: dict[str, Any]) -> str:
    import tvm

    target = {"kind": "llvm", "mcpu": state["cpu"]}
    library = state["folder"] / "selftest.so"
    tvm.compile(state["module"], target=target).export_library(str(library), cc=NATIVE.compiler())
    return f"{library.stat().st_size} bytes"


def _run(state: dict[str, Any]) -> str:
    import numpy as np
    import tvm

    x = np.arange(_SIZE, dtype=np.float32)
    y = tvm.runtime.tensor(np.zeros(_SIZE, np.float32))
    tvm.runtime.load_module(str(state["folder"] / "selftest.so"))["selftest"](tvm.runtime.tensor(x), y)
    if not np.array_equal(y.numpy(), 2 * x + 1):
        raise ArithmeticError("the kernel computed a wrong result")
    return "the result is right"


if __name__ == "__main__":
    sys.exit(main())
