"""The assembler for texts of GPUs that tests hold them against: AMD's by TVM's LLVM, which is always there."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path


def assemble(text: str) -> bytes:
    """The object file of an AMD assembly. RuntimeError, with LLVM's message, for a text that is not right."""
    from tesa.build.compile import assemble as tvm_assemble

    target = re.search(r'\.amdgcn_target\s+"amdgcn-amd-amdhsa--(\w+)', text)
    assert target, "no .amdgcn_target"
    module = tvm_assemble(text, {"kind": "llvm", "mtriple": "amdgcn-amd-amdhsa", "mcpu": target[1]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.o"
        module.write_to_file(str(path), "o")
        return path.read_bytes()
