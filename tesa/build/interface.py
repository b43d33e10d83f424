"""C functions of a compiled library that answer for it, before any of its code runs.

They hold no instruction that the oldest CPU of the architecture lacks, so that a program can ask on any CPU:

    const char* tesa_target(void);      what the library was compiled for, as in "x86:cascadelake"
    const char* tesa_missing(void);     the instruction sets that it needs and this CPU lacks, "" where it can run

    const char* tesa_digest(void);      what model.json, which belongs to the library, has as its digest

The same three are functions for tvm_ffi, and of a model a fourth one, tesa_function(inputs...): the name of the
function of the virtual machine that takes inputs of these shapes.
"""

import json
from collections.abc import Mapping, Sequence

from tesa.targets.architecture import Target, find

Shapes = Sequence[Sequence[int]]

_ANSWERS = r"""
#include <string.h>
#include <tvm/ffi/c_api.h>

@PROBE@
TVM_FFI_DLL_EXPORT const char* tesa_target(void) { return @TARGET@; }
TVM_FFI_DLL_EXPORT const char* tesa_digest(void) { return @DIGEST@; }

TVM_FFI_DLL_EXPORT const char* tesa_missing(void) {
  static char text[@ROOM@];
  char found[sizeof text] = "";
  for (int i = 0; needs[i].name[0]; ++i) {
    if (has(i)) continue;
    if (found[0]) strcat(found, ", ");
    strcat(found, needs[i].name);
  }
  memcpy(text, found, sizeof text);
  return text;
}

static int answer(const char* text, TVMFFIAny* result) {
  TVMFFIByteArray bytes = {text, strlen(text)};
  return TVMFFIStringFromByteArray(&bytes, result);
}
TVM_FFI_DLL_EXPORT int __tvm_ffi_tesa_target(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  return answer(tesa_target(), result);
}
TVM_FFI_DLL_EXPORT int __tvm_ffi_tesa_digest(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  return answer(tesa_digest(), result);
}
TVM_FFI_DLL_EXPORT int __tvm_ffi_tesa_missing(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  return answer(tesa_missing(), result);
}
"""

_FUNCTION = r"""
static const char* const functions[] = {@FUNCTIONS@};
static const int32_t ranks[] = {@RANKS@};
static const int64_t shapes[][@WIDTH@] = {@SHAPES@};

static const DLTensor* tensor(const TVMFFIAny* arg) {
  if (arg->type_index == kTVMFFIDLTensorPtr) return (const DLTensor*)arg->v_ptr;
  if (arg->type_index == kTVMFFITensor) return (const DLTensor*)((const char*)arg->v_obj + sizeof(TVMFFIObject));
  return 0;
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_tesa_function(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  for (int size = 0; count == @INPUTS@ && size < @SIZES@; ++size) {
    const int64_t* wanted = shapes[size];
    int fits = 1;
    for (int i = 0; i < @INPUTS@; ++i) {
      const DLTensor* given = tensor(&args[i]);
      fits = fits && given && given->ndim == ranks[i];
      for (int axis = 0; axis < ranks[i]; ++axis, ++wanted) fits = fits && given->shape[axis] == *wanted;
    }
    if (fits) return answer(functions[size], result);
  }
  TVMFFIErrorSetRaisedFromCStr("ValueError", @REFUSAL@);
  return -1;
}
"""

_NO_PROBE = r"""
static const struct { const char* name; } needs[] = {{""}};
static int has(int i) { return 1; }
"""
"""Of an architecture whose CPUs cannot be asked, or all have what its targets need."""


def answers_source(target: Target, digest: str = "") -> str:
    """The C of any library: what it was made for, what a CPU lacks for it, and the digest of its description."""
    architecture = find(target.arch)
    needs = needed(target)
    probe = _NO_PROBE if architecture is None or architecture.probe is None else architecture.probe(needs)
    values = {
        "PROBE": probe,
        "TARGET": json.dumps(target.name),
        "DIGEST": json.dumps(digest),
        "ROOM": str(sum(len(name) + 2 for name in needs) + 1),
    }
    return _filled(_ANSWERS, values)


def interface_source(target: Target, functions: Sequence[str], shapes: Sequence[Shapes], digest: str = "") -> str:
    """The C of a model's library: its functions take inputs of these shapes, one row of shapes for each function.

    digest: of its description.
    """
    flat = [[n for shape in row for n in shape] for row in shapes]
    told = "; ".join(" ".join(f"[{', '.join(map(str, shape))}]" for shape in row) for row in shapes)
    values = {
        "FUNCTIONS": ", ".join(map(json.dumps, functions)),
        "RANKS": ", ".join(str(len(shape)) for shape in shapes[0]) or "0",
        "WIDTH": str(max(len(flat[0]), 1)),
        "SHAPES": ", ".join(f"{{{', '.join(map(str, row)) or '0'}}}" for row in flat),
        "INPUTS": str(len(shapes[0])),
        "SIZES": str(len(shapes)),
        "REFUSAL": json.dumps(f"the model was compiled for inputs of the shapes {told}, and for no others"),
    }
    return answers_source(target, digest) + _filled(_FUNCTION, values)


def _filled(source: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        source = source.replace(f"@{name}@", value)
    return source


def needed(target: Target) -> tuple[str, ...]:
    """The instruction sets that code for a target may hold, by LLVM's names, as far as a system tells of them."""
    architecture = find(target.arch)
    if architecture is None:
        return ()
    every = architecture.needed(target.cpu, target.features, target.triple)
    return tuple(sorted(name for name in every if name in architecture.linux or not architecture.linux))


def baseline(target: Target) -> tuple[str, ...]:
    """Options by which a C compiler makes code for the oldest CPU of the target's architecture."""
    architecture = find(target.arch)
    return () if architecture is None else architecture.baseline
