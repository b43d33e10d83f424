"""C functions of a compiled library that answer for it, before any of its code runs.

They hold no instruction that the oldest CPU of the architecture lacks, so that a program can ask on any CPU:

    const char* tesa_target(void);      what the library was compiled for, as in "x86:cascadelake"
    const char* tesa_missing(void);     the instruction sets that it needs and this CPU lacks, "" where it can run

    const char* tesa_digest(void);      what model.json, which belongs to the library, has as its digest

A model's library has a fourth one:

    const char* tesa_description(void); its inputs and outputs as JSON, of each size

All are functions for tvm_ffi as well, and of a model there is tesa_function(inputs...): the name of the function of the
virtual machine that takes inputs of these shapes. It refuses, in words, what no function of the model can take, and an
index that a table of the model has no row for.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tesa.errors import UnsupportedError
from tesa.targets.architecture import Target, find


@dataclass(frozen=True)
class Port:
    """An input or output of a model: name, shape and dtype, as DLPack and NumPy call it.

    bounds: of indices, the least and the largest, for all elements or for each place of the last axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bounds: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Entry:
    """A function of a model's library, and what it takes and gives."""

    function: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


ALIGNMENT = 64
"""What the address of a DLTensor is a multiple of: TVM takes no other. A tensor of tvm_ffi may lie anywhere."""

_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}
"""DLPack's numbers of the kinds of elements."""

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
#include <stdio.h>

TVM_FFI_DLL_EXPORT const char* tesa_description(void) { return @DESCRIPTION@; }
TVM_FFI_DLL_EXPORT int __tvm_ffi_tesa_description(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  return answer(tesa_description(), result);
}

enum { kInputs = @INPUTS@, kSizes = @SIZES@, kRoom = 400 };
static const char* const functions[] = {@FUNCTIONS@};
static const struct { const char *name, *dtype; int code, bits, ndim; } ports[] = {@PORTS@};
static const int64_t shapes[][@WIDTH@] = {@SHAPES@};
enum { kBounds = @BOUNDED@ };
static const struct { int size, input, place, step; double low, high; } bounds[] = {@BOUNDS@};

static const DLTensor* tensor(const TVMFFIAny* arg) {
  if (arg->type_index == kTVMFFIDLTensorPtr) return (const DLTensor*)arg->v_ptr;
  if (arg->type_index == kTVMFFITensor) return (const DLTensor*)((const char*)arg->v_obj + sizeof(TVMFFIObject));
  return 0;
}

static int refuse(const char* kind, const char* text) {
  TVMFFIErrorSetRaisedFromCStr(kind, text);
  return -1;
}

static int is_compact(const DLTensor* given) {
  int64_t step = 1;
  for (int axis = given->ndim - 1; given->strides && axis >= 0; --axis) {
    if (given->shape[axis] != 1 && given->strides[axis] != step) return 0;
    step *= given->shape[axis];
  }
  return 1;
}

/* 0 where input i can be taken, whatever its shape is */
static int check(int i, const TVMFFIAny* arg) {
  const DLTensor* given = tensor(arg);
  char text[kRoom];
  const char* name = ports[i].name;
  if (!given) {
    snprintf(text, sizeof text, "input %s: expected a tensor", name);
    return refuse("TypeError", text);
  }
  const DLDataType type = given->dtype;
  if (type.code != ports[i].code || type.bits != ports[i].bits || type.lanes != 1) {
    const char* kind = type.code == 0 ? "int" : type.code == 1 ? "uint" : type.code == 2 ? "float" :
                       type.code == 4 ? "bfloat" : type.code == 6 ? "bool" : "type";
    snprintf(text, sizeof text, "input %s: expected %s, got %s%d", name, ports[i].dtype, kind, type.bits);
    return refuse("TypeError", text);
  }
  if (given->device.device_type != kDLCPU) {
    snprintf(text, sizeof text, "input %s: expected memory of the CPU", name);
    return refuse("ValueError", text);
  }
  if (!is_compact(given)) {
    snprintf(text, sizeof text, "input %s: expected contiguous memory in the order of rows, got strides", name);
    return refuse("ValueError", text);
  }
  int64_t elements = 1;
  for (int axis = 0; axis < given->ndim; ++axis) elements *= given->shape[axis];
  /* TVM makes a tensor of its own of a DLTensor, which it takes from memory of this alignment alone */
  const unsigned alignment = arg->type_index == kTVMFFIDLTensorPtr ? @ALIGNMENT@ : type.bits / 8;
  if (elements != 0 && ((uintptr_t)given->data + given->byte_offset) % alignment != 0) {
    snprintf(text, sizeof text, "input %s: its address is no multiple of %u bytes; copy it to memory of "
             "aligned_alloc(@ALIGNMENT@, bytes)", name, alignment);
    return refuse("ValueError", text);
  }
  return 0;
}

/* an element as a number; of types that no index has: 0 */
static double element(const DLTensor* given, int64_t i) {
  const char* data = (const char*)given->data + given->byte_offset;
  switch (given->dtype.code * 100 + given->dtype.bits) {
    case 8: return ((const int8_t*)data)[i];
    case 16: return ((const int16_t*)data)[i];
    case 32: return ((const int32_t*)data)[i];
    case 64: return (double)((const int64_t*)data)[i];
    case 108: return ((const uint8_t*)data)[i];
    case 116: return ((const uint16_t*)data)[i];
    case 132: return ((const uint32_t*)data)[i];
    case 164: return (double)((const uint64_t*)data)[i];
    case 232: return ((const float*)data)[i];
    case 264: return ((const double*)data)[i];
    default: return 0;
  }
}

/* 0 where all indices among the inputs of a size have a row in the model's tables */
static int check_indices(int size, const TVMFFIAny* args) {
  for (int row = 0; row < kBounds; ++row) {
    if (bounds[row].size != size) continue;
    const DLTensor* given = tensor(&args[bounds[row].input]);
    int64_t elements = 1;
    for (int axis = 0; axis < given->ndim; ++axis) elements *= given->shape[axis];
    for (int64_t i = bounds[row].place; i < elements; i += bounds[row].step) {
      const double value = element(given, i);
      if (value > bounds[row].low - 1 && value < bounds[row].high + 1) continue;
      char text[kRoom];
      snprintf(text, sizeof text, "input %s holds %.15g: the model's table takes indices from %.15g to %.15g",
               ports[bounds[row].input].name, value, bounds[row].low, bounds[row].high);
      return refuse("IndexError", text);
    }
  }
  return 0;
}

static int refuse_shapes(const TVMFFIAny* args) {
  char text[sizeof @REFUSAL@ + kRoom] = @REFUSAL@;
  size_t end = strlen(text);
  for (int i = 0; i < kInputs && end < sizeof text - 40; ++i) {
    const DLTensor* given = tensor(&args[i]);
    end += snprintf(text + end, sizeof text - end, " [");
    for (int axis = 0; axis < given->ndim && end < sizeof text - 40; ++axis) {
      end += snprintf(text + end, sizeof text - end, axis ? ", %lld" : "%lld", (long long)given->shape[axis]);
    }
    end += snprintf(text + end, sizeof text - end, "]");
  }
  return refuse("ValueError", text);
}

TVM_FFI_DLL_EXPORT int __tvm_ffi_tesa_function(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result) {
  if (count != kInputs) return refuse("TypeError", @COUNT@);
  for (int i = 0; i < kInputs; ++i) {
    if (check(i, &args[i]) != 0) return -1;
  }
  for (int size = 0; size < kSizes; ++size) {
    const int64_t* wanted = shapes[size];
    int fits = 1;
    for (int i = 0; i < kInputs; ++i) {
      const DLTensor* given = tensor(&args[i]);
      fits = fits && given->ndim == ports[i].ndim;
      for (int axis = 0; axis < ports[i].ndim; ++axis, ++wanted) fits = fits && given->shape[axis] == *wanted;
    }
    if (fits) return check_indices(size, args) != 0 ? -1 : answer(functions[size], result);
  }
  return refuse_shapes(args);
}
"""

NO_PROBE = r"""
static const struct { const char* name; } needs[] = {{""}};
static int has(int i) { (void)i; return 1; }
"""
"""Of an architecture whose CPUs cannot be asked, or all have what its targets need."""


def answers_source(target: Target, digest: str = "") -> str:
    """The C of any library: what it was made for, what a CPU lacks for it, and the digest of its description."""
    architecture = find(target.arch)
    needs = needed(target)
    probe = NO_PROBE if architecture is None or architecture.probe is None else architecture.probe(needs)
    values = {
        "PROBE": probe,
        "TARGET": _c(target.name),
        "DIGEST": _c(digest),
        "ROOM": str(sum(len(name) + 2 for name in needs) + 1),
    }
    return _filled(_ANSWERS, values)


def interface_source(target: Target, entries: Sequence[Entry], digest: str = "") -> str:
    """The C of a model's library, for its functions: one for each size. digest: of its description."""
    first = entries[0].inputs
    flat = [[n for port in entry.inputs for n in port.shape] for entry in entries]
    told = "; ".join(" ".join(_told(port.shape) for port in entry.inputs) for entry in entries)
    ports = [(_c(port.name), _c(port.dtype), *_dlpack(port.dtype), len(port.shape)) for port in first]
    names = ", ".join(port.name for port in first) or "none"
    bounds = [
        (size, index, place, len(port.bounds or ()), low, high)
        for size, entry in enumerate(entries)
        for index, port in enumerate(entry.inputs)
        for place, (low, high) in enumerate(port.bounds or ())
    ]
    values = {
        "DESCRIPTION": _c(json.dumps({"sizes": [_described(entry) for entry in entries]})),
        "FUNCTIONS": ", ".join(_c(entry.function) for entry in entries),
        "PORTS": ", ".join(f"{{{', '.join(map(str, port))}}}" for port in ports) or '{"", "", 0, 0, 0}',
        "WIDTH": str(max(len(flat[0]), 1)),
        "SHAPES": ", ".join(f"{{{', '.join(map(str, row)) or '0'}}}" for row in flat),
        "BOUNDED": str(len(bounds)),
        "BOUNDS": ", ".join(f"{{{', '.join(map(str, row))}}}" for row in bounds) or "{0, 0, 0, 0, 0, 0}",
        "INPUTS": str(len(first)),
        "SIZES": str(len(entries)),
        "ALIGNMENT": str(ALIGNMENT),
        "COUNT": _c(f"the model takes {len(first)} input(s): {names}"),
        "REFUSAL": _c(f"the model was compiled for inputs of the shapes {told}, and for no others; got"),
    }
    return answers_source(target, digest) + _filled(_FUNCTION, values)


def _described(entry: Entry) -> dict[str, Any]:
    """An entry for JSON, bounds only where there are some."""
    sides = {
        side: [{key: value for key, value in vars(port).items() if value is not None} for port in ports]
        for side, ports in (("inputs", entry.inputs), ("outputs", entry.outputs))
    }
    return {"function": entry.function, **sides}


def _c(text: str) -> str:
    """A string of C, whatever letters are in it.

    >>> print(_c('say "é"'))
    "say \\042\\303\\251\\042"
    """
    return (
        '"' + "".join(c if c.isascii() and (c.isalnum() or c in " _.,:;[]{}()-/+") else _octal(c) for c in text) + '"'
    )


def _octal(letter: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in letter.encode())


def _told(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _dlpack(dtype: str) -> tuple[int, int]:
    """DLPack's kind and number of bits of a dtype.

    >>> _dlpack("float32"), _dlpack("bool")
    ((2, 32), (6, 8))
    """
    found = re.fullmatch(r"(bool|int|uint|bfloat|float)(\d*)", dtype)
    if found is None:
        raise UnsupportedError(f"an input of the type {dtype}: DLPack has no name for it; cast it inside of the model")
    return _CODES[found[1]], int(found[2] or 8)


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
