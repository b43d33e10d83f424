"""A server whose results are off by one in their first element: tesa's own, with what it loads replaced.

python faulty.py FLAG OPTIONS...: wrong while there is a file FLAG.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tesa.measure.remote import server

_SOURCE = r"""
#include <dlfcn.h>
#include <tvm/ffi/c_api.h>
static int off(const char *name, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  TVMFFISafeCallType call = (TVMFFISafeCallType)dlsym(dlopen(LIBRARY, RTLD_NOW), name);
  int failed = call(0, args, count, result);
  const TVMFFIAny *arg = args + count - 1;
  DLTensor *y = (DLTensor *)arg->v_ptr;
  if (arg->type_index == kTVMFFITensor) y = (DLTensor *)((char *)arg->v_obj + sizeof(TVMFFIObject));
  *(float *)((char *)y->data + y->byte_offset) += 1;
  return failed;
}
#define OFF(NAME) int NAME(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) \
  { return off(#NAME, args, count, result); }
OFF(__tvm_ffi_tesa_known)
OFF(__tvm_ffi_tesa_check)
"""


def _spoilt(library: Path) -> Path:
    """A library that answers for this one."""
    from tvm_ffi import libinfo

    path = library.with_suffix(".off.so")
    headers = [f"-I{libinfo.find_include_path()}", f"-I{libinfo.find_dlpack_include_path()}"]
    words = ["gcc", "-x", "c", "-O1", "-fPIC", "-shared", *headers, f'-DLIBRARY="{library}"', "-o", str(path), "-"]
    link = ["-x", "none", "-Wl,--no-as-needed", str(library)]
    subprocess.run([*words, *link], input=_SOURCE, text=True, check=True)
    return path


def main(flag: Path, words: list[str]) -> None:
    """Serve."""

    def in_session() -> None:
        from tvm.rpc import server as tvm_server

        load = tvm_server._load_module

        def load_spoilt(path: str) -> Any:
            return load(str(_spoilt(Path(path))) if flag.exists() else path)

        tvm_server._load_module = load_spoilt

    server.main(words, in_session)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
