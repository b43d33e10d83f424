"""Assembles the text of AMD's GPUs to a code object: by LLVM's assembler, which TVM has inside, and by its linker."""

import subprocess
from pathlib import Path

from tesa.base.scratch import Scratch
from tesa.build.compile import assemble
from tesa.build.gpu import tools
from tesa.build.gpu.ptx import AssemblerError

INSTALL = "apt-get install lld-19 (or another version of lld from 15 on)"


def linker() -> str:
    """LLVM's linker, which makes code objects of object files; "" where there is none."""
    return tools.llvm_program("ld.lld") or ""


def assemble_amd(text: str, architecture: str) -> bytes:
    """The code object of a text. AssemblerError with the words of the assembler or the linker."""
    found = linker()
    if not found:
        raise AssemblerError(f"no ld.lld to link a code object with: {INSTALL}")
    target = {"kind": "llvm", "mtriple": "amdgcn-amd-amdhsa", "mcpu": architecture}
    with Scratch() as name:
        code, made = Path(name) / "code.o", Path(name) / "code.hsaco"
        try:
            assemble(text, target).write_to_file(str(code), "o")
        except Exception as error:  # whatever TVM raises
            raise AssemblerError(str(error).strip().splitlines()[-1]) from error
        done = subprocess.run([found, "-shared", str(code), "-o", str(made)], capture_output=True, text=True)
        if done.returncode:
            raise AssemblerError("; ".join(done.stderr.strip().splitlines()[:3]))
        return made.read_bytes()
