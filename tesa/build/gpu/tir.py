"""Functions of TVM for a GPU as text for its assembler: PTX by NVIDIA's compiler of CUDA C, or AMD's by LLVM."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tesa.build.gpu.nvrtc import compile_cuda
from tesa.build.objects import BuildError
from tesa.schedules.gpus import GpuText, GpuTir, Size3
from tesa.targets.target import Target

_KERNEL = 2  # calling convention of what a host launches
_AXES = "xyz"
_BARRIER = re.compile(r"^(\s*)s_barrier\b", re.M)
"""TVM asks LLVM for a barrier without a fence, so that nothing says that what a wave wrote to shared memory has to have
got there first; devices from gfx90a on do not see to it themselves."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of a function. arguments: the number of the function's parameter each, or -1, -2, ... for memory that
    the function needs between its kernels."""

    entry: str
    arguments: tuple[int, ...]
    grid: Size3
    block: Size3
    shared: int = 0


@dataclass(frozen=True)
class Function:
    """The kernels of a function, in their order, and the bytes of each memory between them."""

    kernels: tuple[Kernel, ...]
    memories: tuple[int, ...] = ()


def lowered(module: GpuTir, target: Target) -> tuple[GpuText, dict[str, Function]]:
    """The text of a module of functions, and the kernels of each function by its symbol.

    Raises BuildError for a function whose loops are not all bound to threads, and where nothing compiles CUDA C.
    """
    import tvm
    from tvm import tirx

    assert target.gpu is not None
    # TVM takes 64 lanes for granted on AMD, and sums across lanes that the wave of a desktop GPU has not
    options = dict(target.tvm) | {"thread_warp_size": target.gpu.warp}
    where = tvm.target.Target(options, host={"kind": "llvm"})
    functions = {
        tvm.ir.GlobalVar(symbol): function.with_attr("global_symbol", symbol) for symbol, function in module.functions
    }
    mod = tirx.transform.BindTarget(where)(tvm.IRModule(functions))
    try:
        with where:
            mod = _passes()(mod)
    except Exception as error:  # whatever TVM raises
        raise BuildError(f"{module.name}: {str(error).strip().splitlines()[-1]}") from error
    device = {v: f for v, f in mod.functions.items() if int(f.attrs.get("calling_conv", 0)) == _KERNEL}
    hosts = {v.name_hint: f for v, f in mod.functions.items() if v not in device}
    found = {symbol: _function(symbol, hosts[symbol]) for symbol, _ in module.functions}
    for symbol, made in found.items():
        if not made.kernels:
            raise BuildError(f"{symbol}: no loop of it is bound to blockIdx or threadIdx")
    code = tvm.transform.Sequential(_finals())(tvm.IRModule(device))
    if target.arch == "rocm":
        return GpuText(module.name, "amd", _amd(code, where)), found
    source = tvm.get_global_func("target.build.cuda")(code, where).inspect_source()
    return GpuText(module.name, "ptx", compile_cuda(str(source), target.cpu)), found


def _passes() -> Any:
    """TVM's own pipeline up to where functions for the host and for the device are apart."""
    import tvm
    from tvm import s_tir, tirx

    s, x = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            s.CanonicalizeLoop(), s.LowerCrossThreadReduction(), s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(), s.ConvertBlocksToOpaque(), s.LiftThreadBinding(),
            s.ManifestSharedMemoryLocalStage(), s.CompactBufferAllocation(), s.LowerAutoCopy(),
            s.UnifyThreadBinding(), s.LowerMatchBuffer(), s.StmtSimplify(), s.InjectPermutedLayout(),
            s.AnnotateIrregularLoop(), s.InjectSoftwarePipeline(), s.TransformMmaBufferLayout(),
            s.LowerOpaqueBlock(), x.FlattenBuffer(), x.BF16ComputeLegalize(), x.NarrowDataType(32),
            s.LoopPartition(), x.VectorizeLoop(True), s.InjectVirtualThread(), s.InjectDoubleBuffer(),
            x.StorageRewrite(), s.HoistIfThenElse(), x.UnrollLoop(), s.RenormalizeSplitPattern(), x.StmtSimplify(),
            x.RemoveNoOp(), s.RewriteUnsafeSelect(), x.CommonSubexprElim(), x.FP8ComputeLegalize(),
            x.VerifyMemory(), x.AnnotateEntryFunc(), s.ThreadSync("shared"), s.ThreadSync("shared.dyn"),
            s.ThreadSync("warp"), s.InferFragment(), s.LowerThreadAllreduce(), s.MergeSharedMemoryAllocations(),
            x.SplitHostDevice(),
        ]
    )  # fmt: skip


def _finals() -> list[Any]:
    from tvm import tirx

    x = tirx.transform
    return [x.BF16StorageLegalize(), x.LowerWarpMemory(), x.StmtSimplify(), x.LowerIntrin()]


def _function(symbol: str, function: Any) -> Function:
    """The kernels that a function for the host launches."""
    from tvm import ir

    places: dict[Any, int] = {}
    for number, parameter in enumerate(function.params):
        places[parameter] = number
    memories: list[int] = []
    kernels: list[Kernel] = []

    def root(value: Any) -> int:
        while isinstance(value, ir.Call) and len(value.args):
            value = value.args[0]
        if value not in places:
            raise BuildError(f"{symbol}: a kernel takes {value}, which is no parameter")
        return places[value]

    for kind, node in _nodes(function.body):
        if kind == "view":
            places[node.buffer] = root(node.data)
        elif kind == "memory":
            memories.append(_bytes(node.buffer))
            places[node.buffer] = -len(memories)
        else:
            kernels.append(_kernel(symbol, node, root))
    return Function(tuple(kernels), tuple(memories))


def _nodes(body: Any) -> Iterator[tuple[str, Any]]:
    """Views of buffers, memory and launches in a host's function, in their order."""
    import tvm_ffi
    from tvm import ir, tirx

    found: list[tuple[str, Any]] = []

    def note(kind: str, node: Any) -> None:
        found.append((kind, node))

    def called(node: Any) -> None:
        if str(getattr(node.op, "name", "")) == "tirx.call_ffi_kernel":
            found.append(("launch", node))

    kinds = [
        (tirx.DeclBuffer, lambda node: note("view", node)),
        (tirx.AllocBuffer, lambda node: note("memory", node)),
        (ir.Call, called),
    ]
    tvm_ffi.structural_walk(body, kinds)
    order = {"memory": 0, "view": 1, "launch": 2}
    return iter(sorted(found, key=lambda one: order[one[0]]))


def _bytes(buffer: Any) -> int:
    import numpy as np

    return int(np.prod([int(size) for size in buffer.shape])) * ((int(buffer.dtype.bits) + 7) // 8)


def _kernel(symbol: str, call: Any, root: Any) -> Kernel:
    """A launch: the name, the pointers, then a number for each of launch_params."""
    names = [str(name) for name in call.attrs["launch_params"]]
    entry, *rest = call.args
    pointers, numbers = rest[: len(rest) - len(names)], rest[len(rest) - len(names) :]
    sizes = {name: _number(symbol, number) for name, number in zip(names, numbers, strict=True)}

    def three(prefix: str) -> Size3:
        x, y, z = (sizes.get(f"{prefix}.{axis}", 1) for axis in _AXES)
        return x, y, z

    shared = sizes.get("tirx.use_dyn_shared_memory", 0)
    arguments = tuple(root(pointer) for pointer in pointers)
    return Kernel(str(entry.value), arguments, three("blockIdx"), three("threadIdx"), shared)


def _number(symbol: str, value: Any) -> int:
    try:
        return int(value)
    except TypeError as error:
        raise BuildError(f"{symbol}: its number of threads depends on its arguments: {value}") from error


def _amd(code: Any, where: Any) -> str:
    """AMD's assembly by LLVM. TVM would link it with device libraries of ROCm, which need not be there."""
    import tvm

    tvm.register_global_func("tvm_callback_rocm_bitcode_path", list, override=True)
    tvm.register_global_func("tvm_callback_rocm_link", lambda objects: objects, override=True)
    text = str(tvm.get_global_func("target.build.rocm")(code, where).inspect_source("asm"))
    text = text.replace("amdgcn-amd-amdhsa-hcc-", "amdgcn-amd-amdhsa--")  # as other tools call it
    return _BARRIER.sub(r"\1s_waitcnt lgkmcnt(0)\n\1s_barrier", text)
