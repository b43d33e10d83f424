"""Compiles CUDA C to PTX in this process, by NVRTC. Neither a driver nor a toolkit is needed."""

import ctypes
import re
from functools import cache
from typing import Any

from tesa.build.gpu import tools
from tesa.build.objects import BuildError

_MOST_SHOWN = 3


@cache
def _library() -> Any:
    path = tools.library("nvrtc")
    if path is None:
        raise BuildError(f"no NVRTC to compile CUDA C with: {tools.EXTRA}")
    return ctypes.CDLL(str(path))


def compile_cuda(source: str, architecture: str) -> str:
    """PTX of a text in CUDA C. Raises BuildError with the compiler's words, and where there is no compiler.

    The text says the oldest version of PTX that has its instructions: a driver refuses what is newer than itself.
    """
    library, program = _library(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"code.cu", 0, None, None)
    options = [f"-arch={architecture.replace('sm_', 'compute_')}", "-std=c++17"]
    options += [f"-I{folder}" for folder in tools.includes()]
    given = (ctypes.c_char_p * len(options))(*(one.encode() for one in options))
    code = library.nvrtcCompileProgram(program, len(options), given)
    said = _text(library, program, "ProgramLog" if code else "PTX")
    library.nvrtcDestroyProgram(ctypes.byref(program))
    if code:
        lines = [line for line in said.splitlines() if "error" in line] or said.splitlines()
        raise BuildError(f"CUDA C: {'; '.join(lines[:_MOST_SHOWN])}")
    version = "8.6" if architecture == "sm_100" else "8.0"
    return re.sub(r"^\.version \d+\.\d+", f".version {version}", said, flags=re.MULTILINE)


def _text(library: Any, program: ctypes.c_void_p, kind: str) -> str:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value + 1)
    getattr(library, f"nvrtcGet{kind}")(program, text)
    return text.value.decode(errors="replace")
