"""Makes one kernel a library that stands alone: entry(X, residual if any, Y), with all its constants inside.

A few lines of C fill in the constants and pass the call on. They also hold serial stand-ins for the three functions of
TVM's runtime that a kernel may call, so that the library needs nothing but libtvm_ffi; where the runtime is loaded, it
puts its own functions (and its threads) in their place when it loads the library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.scratch import Scratch
from tesa.build.interface import answers_source, baseline
from tesa.targets.target import Target

ENTRY = "entry"
"""Name of the function in the library, for tvm_ffi; the C symbol is __tvm_ffi_entry."""

_SOURCE = r"""
#include <stdint.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

typedef struct { void* sync; int32_t num_task; } Group;
typedef int (*Task)(int, Group*, void*);

static int launch(Task task, void* data, int num_task) {
  Group group = {0, 1};
  (void)num_task;
  return task(0, &group, data);
}
static int barrier(int task, Group* group) { (void)task; (void)group; return 0; }
static void* allocate(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type; (void)id; (void)code; (void)bits;
  return aligned_alloc(64, (bytes + 63) / 64 * 64);
}
static int release(int type, int id, void* pointer) { (void)type; (void)id; free(pointer); return 0; }

TVM_FFI_DLL_EXPORT int (*__TVMBackendParallelLaunch)(Task, void*, int) = launch;
TVM_FFI_DLL_EXPORT int (*__TVMBackendParallelBarrier)(int, Group*) = barrier;
TVM_FFI_DLL_EXPORT void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
TVM_FFI_DLL_EXPORT int (*__TVMBackendFreeWorkspace)(int, int, void*) = release;

extern int __tvm_ffi_@SYMBOL@(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);
@CONSTANTS@
TVM_FFI_DLL_EXPORT int __tvm_ffi_@ENTRY@(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  TVMFFIAny all[@TOTAL@] = {{0}};
  if (count != @GIVEN@) {
    TVMFFIErrorSetRaisedFromCStr("TypeError", "this kernel takes @GIVEN@ arguments: @NAMES@");
    return -1;
  }
@FILL@
  return __tvm_ffi_@SYMBOL@(self, all, @TOTAL@, result);
}
"""

_CONSTANT = r"""
__asm__(".pushsection .rodata\n.balign 64\ntesa_data@I@:\n.incbin \"@FILE@\"\n.balign 4\n.popsection\n");
extern char tesa_data@I@[] __attribute__((visibility("hidden")));
static int64_t shape@I@[] = {@SHAPE@};
static DLTensor constant@I@ = {tesa_data@I@, {kDLCPU, 0}, @NDIM@, {@CODE@, @BITS@, 1}, shape@I@, 0, 0};
"""

_CODES = {"f": "kDLFloat", "i": "kDLInt", "u": "kDLUInt"}


def package(
    path: Path,
    objects: Sequence[Path],
    symbol: str,
    constants: Sequence[NDArray[Any]],
    names: Sequence[str],
    target: Target,
) -> None:
    """Link a kernel, called as symbol(X, *constants, residual if any, Y), into a library with the function ENTRY.

    names: the arguments that remain for the caller, X first and Y last. The same arguments give the same bytes. Like a
    model's, the library answers for itself, see interface.py.

    Raises UsageError as the toolchain does.
    """
    with Scratch() as name:
        folder = Path(name)
        wrapper, answers = folder / "entry.o", folder / "answers.o"
        target.toolchain.compile(_source(symbol, constants, names, folder), wrapper, ["-fvisibility=hidden"])
        target.toolchain.compile(answers_source(target), answers, ["-fvisibility=hidden", *baseline(target)])
        target.toolchain.link([wrapper, *objects, answers], path)


def _source(symbol: str, constants: Sequence[NDArray[Any]], names: Sequence[str], folder: Path) -> str:
    """The C text; the constants are written into folder."""
    declared, fill = [], ["  all[0] = args[0];"]
    for index, array in enumerate(constants):
        file = folder / f"constant{index}.bin"
        np.ascontiguousarray(array).tofile(file)
        text = _CONSTANT.replace("@I@", str(index)).replace("@FILE@", str(file).replace("\\", "\\\\"))
        text = text.replace("@SHAPE@", ", ".join(map(str, array.shape)) or "0").replace("@NDIM@", str(array.ndim))
        declared.append(text.replace("@CODE@", _CODES[array.dtype.kind]).replace("@BITS@", str(array.itemsize * 8)))
        fill.append(f"  all[{index + 1}].type_index = kTVMFFIDLTensorPtr;")
        fill.append(f"  all[{index + 1}].v_ptr = &constant{index};")
    for index in range(1, len(names)):
        fill.append(f"  all[{len(constants) + index}] = args[{index}];")
    source = _SOURCE.replace("@SYMBOL@", symbol).replace("@ENTRY@", ENTRY).replace("@CONSTANTS@", "".join(declared))
    source = source.replace("@TOTAL@", str(len(constants) + len(names))).replace("@GIVEN@", str(len(names)))
    return source.replace("@NAMES@", ", ".join(names)).replace("@FILL@", "\n".join(fill))
