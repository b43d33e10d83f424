"""A network as one file of C: what it calls is readable, its constants are arrays, its kernels are assembly inside."""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from tesa.build.bare.arena import ALIGNMENT, Plan
from tesa.build.bare.ir import padded
from tesa.build.bare.network import Call, Calls, Function
from tesa.build.bare.ports import STATUS, Api, Port, Size
from tesa.schedules.cpu.lifting import Region
from tesa.targets.target import parse_target

_C = {
    "ptr": "const void *",
    "i32": "int32_t ",
    "i64": "int64_t ",
    "float": "float ",
    "double": "double ",
    "i1": "_Bool ",
}

_HEAD = """/* @NAME@: a compiled neural network, made by tesa @VERSION@ for @TARGET@. See @HEADER@.
   To be compiled by gcc or clang for that machine. */
#if !defined(__GNUC__) || !@MACHINE@
#error "this model is code for @TARGET@: compile it with gcc or clang for that machine"
#endif

#include "@HEADER@"

#include <string.h>

#pragma GCC diagnostic ignored "-Woverlength-strings"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  tesa_launch launch;
  void *user;
  int failed;
} threads_of;
"""

_MACHINES = {"x86": "defined(__x86_64__)", "aarch64": "defined(__aarch64__)"}
"""What a compiler for an architecture defines."""

_OUTSIDE = """
static int outside(double value, double low, double high) { return !(value >= low && value <= high); }
"""

_SHARED = """
static int shaped(const tesa_tensor *given, const tesa_tensor *wanted) {
  int32_t axis;
  if (given->rank != wanted->rank || (wanted->rank && !given->shape)) return 0;
  for (axis = 0; axis < wanted->rank; ++axis)
    if (given->shape[axis] != wanted->shape[axis]) return 0;
  return 1;
}

static int checked(const tesa_tensor *given, const tesa_tensor *wanted, int32_t count) {
  int32_t i;
  for (i = 0; i < count; ++i) {
    if (given[i].type != wanted[i].type) return TESA_TYPE;
    if (!shaped(given + i, wanted + i)) return TESA_SHAPE;
    if (given[i].bytes < wanted[i].bytes) return TESA_BYTES;
  }
  return TESA_OK;
}
"""

_QUERIES = """
size_t @NAME@_arena_bytes(void) { return ARENA; }
int32_t @NAME@_sizes(void) { return SIZES; }
int32_t @NAME@_inputs(void) { return INPUTS; }
int32_t @NAME@_outputs(void) { return OUTPUTS; }
const tesa_tensor *@NAME@_input(int32_t size, int32_t index) {
  return size < 0 || size >= SIZES || index < 0 || index >= INPUTS ? NULL : ports[size] + index;
}
const tesa_tensor *@NAME@_output(int32_t size, int32_t index) {
  return size < 0 || size >= SIZES || index < 0 || index >= OUTPUTS ? NULL : ports[size] + INPUTS + index;
}
const char *@NAME@_error(int status) {
  static const char *const texts[] = {TEXTS};
  return status < 0 || status >= STATUSES ? "unknown status" : texts[status];
}
size_t @NAME@_missing(char *text, size_t bytes) {
  size_t length = 0, letter;
  int i;
  for (i = 0; needs[i].name[0]; ++i) {
    if (has(i)) continue;
    if (length) {
      if (length + 1 < bytes) text[length] = ',';
      if (length + 2 < bytes) text[length + 1] = ' ';
      length += 2;
    }
    for (letter = 0; needs[i].name[letter]; ++letter, ++length)
      if (length + 1 < bytes) text[length] = needs[i].name[letter];
  }
  if (bytes) text[length < bytes ? length : bytes - 1] = 0;
  return length;
}
const char *@NAME@_target(void) { return "@TARGET@"; }
const char *@NAME@_version(void) { return "@VERSION@"; }
const char *@NAME@_digest(void) { return "@DIGEST@"; }
"""


def source(
    model: Api, calls: Calls, plans: Mapping[str, Plan], assembly: Sequence[str],
    regions: Sequence[Region], probe: str, header: str,
) -> str:  # fmt: skip
    """The text of NAME.c. plans: where the buffers of each function lie; probe: C, see cpuid.probe and fits;
    header: the name of the header's file.
    """
    own = {function.name for function in calls.functions}
    parts = [_HEAD, probe, _constants(calls), *map(_inside, range(len(assembly)), assembly)]
    parts += [_region(one) for one in regions]
    declared: dict[str, int] = {}
    bodies = [_function(calls, one.function, one.offsets, own, declared) for one in plans.values()]
    parts += [f"int {symbol}({', '.join(['const void *'] * count)});" for symbol, count in sorted(declared.items())]
    limited = any(port.limits for size in model.sizes for port in size.inputs)
    parts += [*bodies, _ports(model), *([_OUTSIDE] if limited else []), _SHARED]
    parts += [text for size in model.sizes for text in (_run_parallel(model, size), _run(model, size))]
    parts += [_call(model), _queries(model), "\n#ifdef __cplusplus\n}\n#endif\n"]
    text = "\n".join(parts)
    values = {
        "HEADER": header, "VERSION": model.version, "TARGET": model.target, "DIGEST": model.digest, "NAME": model.name,
        "MACHINE": _MACHINES.get(parse_target(model.target).arch, "1"),
    }  # fmt: skip
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _constants(calls: Calls) -> str:
    words: list[str] = []
    for array in calls.constants:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes() if array.size else b""
        numbers = np.frombuffer(content.ljust(padded(len(content)), b"\0"), np.uint32)
        words += [hex(number) for number in numbers.tolist()]
    lines = [", ".join(words[i : i + 12]) for i in range(0, len(words), 12)] or ["0"]
    body = ",\n  ".join(lines)
    return f"static const uint32_t constants[] __attribute__((aligned({ALIGNMENT}), unused)) = {{\n  {body}\n}};"


_LEFT_OUT = re.compile(
    r"\s*\.(?:globl|global|hidden|weak|size|file|loc|ident|addrsig|addrsig_sym|cfi_\w+)\b|\.L(tmp|func_)"
)
_DEBUG = re.compile(r'\s*\.section\s+"?\.(debug|note)')


def _inside(number: int, text: str) -> str:
    """Assembly inside of C: without what debuggers read, its names of its own alone."""
    lines, hidden = [], False
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in (".section", ".text"):
            hidden = bool(_DEBUG.match(line))
        if hidden or not words or _LEFT_OUT.match(line):
            continue
        line = re.sub(r"\.L(?=[\w$])", f".L{number}_", line)
        line = re.sub(r"__(truncsfhf2|extendhfsf2)", rf"__\1_{number}", line)
        lines.append('  "' + line.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '\\n"')
    body = "\n".join(lines)
    return f'__asm__(\n  ".pushsection .text\\n"\n{body}\n  ".popsection\\n");'


def _region(one: Region) -> str:
    every = [*one.types, *["ptr"] * len(one.places)]
    fields = "".join(f" {_C[kind]}a{i};" for i, kind in enumerate(every))
    given = [f"d->a{i}" for i in range(len(one.types))]
    given += [
        f"(const char *)d->a{len(one.types) + i} + (size_t)number * {padded(size)}" for i, size in enumerate(one.places)
    ]
    params = ", ".join(f"{_C[kind]}a{i}" for i, kind in enumerate(every))
    types = ", ".join(_C[kind].strip() for kind in every)
    values = ", ".join(f"a{i}" for i in range(len(every)))
    return f"""
struct {one.symbol}_data {{{fields} }};
int {one.task}({types}, int32_t);
static void {one.symbol}_run(void *data, int32_t number) {{
  struct {one.symbol}_data *d = (struct {one.symbol}_data *)data;
  {one.task}({", ".join([*given, "number"])});
}}
static int {one.symbol}(threads_of *threads, {params}) __asm__("{one.symbol}");
__attribute__((used, noinline)) static int {one.symbol}(threads_of *threads, {params}) {{
  struct {one.symbol}_data data = {{{values}}};
  int32_t i;
  if (!threads)
    for (i = 0; i < {one.tasks}; ++i) {one.symbol}_run(&data, i);
  else if (!threads->failed)
    threads->failed = threads->launch(threads->user, {one.symbol}_run, &data, {one.tasks});
  return 0;
}}"""


def _function(calls: Calls, function: Function, offsets: Sequence[int], own: set[str], declared: dict[str, int]) -> str:
    starts = list(accumulate((padded(array.nbytes) for array in calls.constants), initial=0))
    params = [f"const void *input{i}" for i in range(len(function.inputs))]
    params += [f"void *output{i}" for i in range(len(function.outputs))]
    lines = [f"static void network_{function.name}({', '.join([*params, 'char *arena', 'threads_of *threads'])}) {{"]
    lines += ["  (void)arena;", "  (void)threads;"]
    for call in function.calls:
        lines.append(f"  {_line(call, function, offsets, starts, own, declared)}")
        if call.threads and call is not function.calls[-1]:
            lines.append("  if (threads && threads->failed) return;")
    return "\n".join(["", *lines, "}"])


def _line(
    call: Call, function: Function, offsets: Sequence[int], starts: Sequence[int], own: set[str],
    declared: dict[str, int],
) -> str:  # fmt: skip
    arguments = []
    for ref in (*call.arguments, *call.scratch):
        if ref.kind == "constant":
            arguments.append(f"(const char *)constants + {starts[ref.index]}")
        elif ref.kind == "buffer":
            arguments.append(f"arena + {offsets[ref.index]}")
        else:
            arguments.append(f"{ref.kind}{ref.index}")
    if not call.symbol:
        return f"memcpy({arguments[1]}, {arguments[0]}, {function.outputs[call.arguments[1].index].bytes});"
    arguments += ["threads"] if call.threads else []
    if call.symbol in own:
        return f"network_{call.symbol}({', '.join(arguments)});"
    declared[call.symbol] = len(arguments)
    return f"{call.symbol}({', '.join(arguments)});"


def _quoted(text: str) -> str:
    made = []
    for byte in text.encode():
        made.append(chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?@' else f"\\{byte:03o}")
    return '"' + "".join(made) + '"'


def _ports(model: Api) -> str:
    lines = []
    for number, size in enumerate(model.sizes):
        rows = []
        for i, port in enumerate(size.ports):
            shape = port.tensor.shape
            if shape:
                lines.append(f"static const int64_t shape{number}_{i}[] = {{{', '.join(map(str, shape))}}};")
            place = f"shape{number}_{i}" if shape else "NULL"
            rows.append(f"{{NULL, {_quoted(port.name)}, {place}, {len(shape)}, {port.type}, {port.tensor.bytes}}}")
        lines.append(f"static const tesa_tensor ports{number}[] = {{{', '.join(rows)}}};")
    tables = ", ".join(f"ports{number}" for number in range(len(model.sizes)))
    return "\n".join([*lines, f"static const tesa_tensor *const ports[] = {{{tables}}};"])


def _names(size: Size) -> list[str]:
    """The parameters of inputs and outputs. The model's own names, which the header has, may be names of C here."""
    return [f"input{i}" for i in range(len(size.inputs))] + [f"output{i}" for i in range(len(size.outputs))]


def _params(size: Size) -> list[str]:
    kinds = [f"const {port.c}" for port in size.inputs] + [port.c for port in size.outputs]
    return [*(f"{kind} *{name}" for kind, name in zip(kinds, _names(size), strict=True)), "void *arena"]


def _run(model: Api, size: Size) -> str:
    names = [*_names(size), "arena", "NULL", "NULL"]
    return f"""
int @NAME@_run{size.suffix}({", ".join(_params(size))}) {{
  return @NAME@_run_parallel{size.suffix}({", ".join(names)});
}}"""


def _run_parallel(model: Api, size: Size) -> str:
    names = _names(size)
    used = [(name, port.alignment - 1) for name, port in zip(names, size.ports, strict=True) if port.tensor.bytes]
    used.append(("arena", ALIGNMENT - 1))
    nulls = " || ".join(f"!{name}" for name, _ in used)
    odd = " | ".join(f"((uintptr_t){name} & {mask})" for name, mask in used)
    limits = [
        _limit(name, port) for name, port in zip(names, size.inputs, strict=False) if port.limits and port.tensor.bytes
    ]
    index = ["  size_t element;"] if limits else []
    body = "\n".join([*index, f"  if ({nulls}) return TESA_NULL;", f"  if ({odd}) return TESA_ALIGNMENT;"])
    return f"""
int @NAME@_run_parallel{size.suffix}({", ".join([*_params(size), "tesa_launch launch", "void *user"])}) {{
  threads_of threads;
{body}
  if (!fits()) return TESA_CPU;
{chr(10).join(limits)}
  threads.launch = launch;
  threads.user = user;
  threads.failed = 0;
  network_{size.function}({", ".join([*names, "(char *)arena", "launch ? &threads : NULL"])});
  return threads.failed ? TESA_THREADS : TESA_OK;
}}"""


def _limit(name: str, port: Port) -> str:
    count, step = port.tensor.bytes // port.alignment, len(port.limits)
    return "\n".join(
        f"  for (element = {place}; element < {count}; {f'element += {step}' if step > 1 else '++element'})\n"
        f"    if (outside((double){name}[element], {low}, {high})) return TESA_INDEX;"
        for place, (low, high) in enumerate(port.limits)
    )


def _call(model: Api) -> str:
    tries = []
    for number, size in enumerate(model.sizes):
        inputs, outputs = len(size.inputs), len(size.outputs)
        given = [f"(const {port.c} *)inputs[{i}].data" for i, port in enumerate(size.inputs)]
        given += [f"({port.c} *)outputs[{i}].data" for i, port in enumerate(size.outputs)]
        same = " && ".join(f"shaped(inputs + {i}, ports{number} + {i})" for i in range(inputs)) or "1"
        tries.append(f"""  if ({same if len(model.sizes) > 1 else "1"}) {{
    status = checked(inputs, ports{number}, {inputs});
    if (!status) status = checked(outputs, ports{number} + {inputs}, {outputs});
    if (status) return status;
    return @NAME@_run_parallel{size.suffix}({", ".join([*given, "arena", "launch", "user"])});
  }}""")
    last = "  return TESA_SHAPE;\n" if len(model.sizes) > 1 else ""
    return f"""
int @NAME@_call(const tesa_tensor *inputs, int32_t inputs_count, const tesa_tensor *outputs, int32_t outputs_count,
              void *arena, size_t arena_bytes, tesa_launch launch, void *user) {{
  int status;
  if (inputs_count != {len(model.sizes[0].inputs)} || outputs_count != {len(model.sizes[0].outputs)}) return TESA_COUNT;
  if ((inputs_count && !inputs) || !outputs) return TESA_NULL;
  if (arena_bytes < {model.arena}) return TESA_ARENA;
{chr(10).join(tries)}
{last}}}"""


def _queries(model: Api) -> str:
    first = model.sizes[0]
    values = {
        "ARENA": model.arena, "SIZES": len(model.sizes), "INPUTS": len(first.inputs), "OUTPUTS": len(first.outputs),
        "TEXTS": ", ".join(_quoted(text) for text in STATUS.values()), "STATUSES": len(STATUS),
    }  # fmt: skip
    text = _QUERIES
    for key, value in values.items():
        text = re.sub(rf"\b{key}\b", str(value), text)
    return text
