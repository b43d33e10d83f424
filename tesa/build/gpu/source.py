"""The code of a GPU's kernel as text: what was emitted, what the assembler made of it, or functions of TVM."""

import subprocess
from difflib import get_close_matches
from pathlib import Path

from tesa.base.scratch import Scratch
from tesa.build.gpu import tools
from tesa.build.gpu.images import images_of
from tesa.build.gpu.product import CUBIN, HSACO
from tesa.build.gpu.tir import lowered
from tesa.errors import UsageError
from tesa.schedules.gpus import GpuCode, GpuText, GpuTir
from tesa.targets.target import Target

KINDS = {
    "ptx": "NVIDIA's virtual assembly", "sass": "NVIDIA's instructions", "amd": "AMD's assembly",
    "tir": "TIR, TVM's tensor program",
}  # fmt: skip


def source(code: GpuCode, target: Target, kind: str) -> str:
    """The text of all modules of a kernel in one of KINDS. UsageError for another kind, or one that it has not."""
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"cannot show {kind!r}; {hint}expected {', '.join(repr(name) for name in KINDS)}")
    if kind == "tir":
        return _tir(code)
    own = "amd" if target.arch == "rocm" else "ptx"
    if kind not in (own, "sass") or (kind == "sass" and own == "amd"):
        raise UsageError(f"cannot show {kind!r} of a kernel for {target.name}; it has {own!r} and 'tir'")
    texts = [module if isinstance(module, GpuText) else lowered(module, target)[0] for module in code.modules]
    if kind != "sass":
        return "\n".join(text.text for text in texts)
    return "\n".join(disassembled(text, target) for text in texts)


def disassembled(text: GpuText, target: Target) -> str:
    """The instructions of a module's cubin, by nvdisasm. UsageError where a tool is missing."""
    found = tools.program("nvdisasm")
    if found is None:
        raise UsageError(f"cannot show 'sass': there is no nvdisasm; {tools.EXTRA}")
    image = images_of(text, target)[0]
    if image.kind not in (CUBIN, HSACO):
        raise UsageError(f"cannot show 'sass': nothing assembles PTX here; {tools.EXTRA}")
    with Scratch() as name:
        path = Path(name) / "code.cubin"
        path.write_bytes(image.content)
        return subprocess.run([str(found), "-c", str(path)], capture_output=True, text=True, check=True).stdout


def _tir(code: GpuCode) -> str:
    modules = [module for module in code.modules if isinstance(module, GpuTir)]
    if not modules and code.tir is not None:
        modules = [code.tir()]
    if not modules:
        raise UsageError("cannot show 'tir': this kernel was written as assembly alone")
    return "\n".join(str(function.script(show_meta=False)) for module in modules for _, function in module.functions)
