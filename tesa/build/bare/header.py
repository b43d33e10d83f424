"""The C header of a model that needs no runtime: what to call, with what, and what comes back."""

import textwrap
from collections.abc import Sequence

from tesa.build.bare.arena import ALIGNMENT
from tesa.build.bare.ports import STATUS, TYPES, Api, Port, Size

_SHARED = """#ifndef TESA_C_API
#define TESA_C_API 1

/* What the functions of a model answer; NAME_error says each in words. */
enum {{
{status}
}};

/* Types of elements. A bool is a byte, 0 or 1; 16-bit floats are their bits in a uint16_t. */
enum {{
{types}
}};

/* An input or output, for callers that know a model only when they run. */
typedef struct tesa_tensor {{
  void *data;           /* the elements, row-major, without gaps */
  const char *name;     /* not read in a call */
  const int64_t *shape; /* `rank` numbers */
  int32_t rank;
  int32_t type;         /* TESA_FLOAT32, ... */
  uint64_t bytes;       /* of the memory at data */
}} tesa_tensor;

/* Threads: a launch function runs task(data, i) once for each i of 0 ... tasks - 1, on whatever threads and in whatever
   order, and returns 0 when all of them have returned; another answer gives up the run. `user` is what was given along
   with it. */
typedef void (*tesa_task)(void *data, int32_t i);
typedef int (*tesa_launch)(void *user, tesa_task task, void *data, int32_t tasks);

#endif
"""


def header(model: Api) -> str:
    """The text of NAME.h, for C and C++."""
    n, guard = model.name, f"TESA_MODEL_{model.name}_H"
    last = list(STATUS)[-1]
    status = "\n".join(
        f"  TESA_{key} = {number}{'' if key == last else ','} /* {text} */"
        for number, (key, text) in enumerate(STATUS.items())
    )
    types = "\n".join(f"  TESA_{key.upper()} = {number}," for number, key in enumerate(TYPES, start=1))
    parts = [
        f"/* {n}: a compiled neural network, made by tesa {model.version} for {model.target}. It needs no runtime. */",
        f"#ifndef {guard}\n#define {guard} 1\n\n#include <stddef.h>\n#include <stdint.h>",
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        _SHARED.format(status=status, types=types.rstrip(",")),
        _macros(model),
        _usage(model),
        *(_size(model, size, number) for number, size in enumerate(model.sizes)),
        _call(model),
        _queries(model),
        "#ifdef __cplusplus\n}\n#endif\n\n#endif",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _macros(model: Api) -> str:
    big = model.name.upper()
    rows = {
        "ARENA_BYTES": f"{model.arena}", "ARENA_ALIGNMENT": f"{ALIGNMENT}", "SIZES": f"{len(model.sizes)}",
        "INPUTS": f"{len(model.sizes[0].inputs)}", "OUTPUTS": f"{len(model.sizes[0].outputs)}",
        "TARGET": f'"{model.target}"', "VERSION": f'"{model.version}"',
    }  # fmt: skip
    return "\n".join(f"#define {big}_{key} {value}" for key, value in rows.items())


def _usage(model: Api) -> str:
    n = model.name
    return _comment(
        f"Each run works in an arena, {model.arena} bytes aligned to {ALIGNMENT} that the caller owns "
        f"({n.upper()}_ARENA_BYTES, or {n}_arena_bytes()). What is in it before a run does not matter, and after the "
        "run it may be used for anything. A model allocates nothing and has no state: any number of runs may go on "
        "at the same time, each with an arena of its own. Inputs and outputs do not overlap each other or the arena; "
        "they are aligned to their elements, and best to 64 bytes. Inputs are left as they are."
    )


def _size(model: Api, size: Size, number: int) -> str:
    n = model.name
    width = max(len(port.argument) for port in size.ports) if size.ports else 0
    rows = [f"   {side}  {port.argument:<{width}}  {_told(port)}" for side, group in (
        ("in ", size.inputs), ("out", size.outputs)) for port in group]  # fmt: skip
    title = (
        "Run the model"
        + (f" at size {number}" if len(model.sizes) > 1 else "")
        + ". Answers TESA_OK, or what is wrong."
    )
    params = [_parameter(port, const=True) for port in size.inputs] + [_parameter(port) for port in size.outputs]
    plain = _declared(f"int {n}_run{size.suffix}", [*params, "void *arena"])
    threaded = _declared(
        f"int {n}_run_parallel{size.suffix}", [*params, "void *arena", "tesa_launch launch", "void *user"]
    )
    told = (
        f"at most {model.threads} tasks at once"
        if model.threads > 1
        else "the model was compiled for one: it launches nothing"
    )
    return "\n".join([
        f"/* {title}", *rows, "*/", plain, "",
        _comment(f"The same on threads of the application ({told}). Where launch is null, the caller does all."),
        threaded,
    ])  # fmt: skip


def _told(port: Port) -> str:
    shape = f"[{', '.join(map(str, port.tensor.shape))}]"
    several = [f"from {low} to {high}" for low, high in port.limits]
    limits = f", each {', '.join(several)}{' by place of the last axis' * (len(several) > 1)}" if several else ""
    name = "" if port.name == port.argument else f' "{_safe(port.name)}"'
    return f"{port.tensor.dtype} {shape}, {port.tensor.bytes} bytes{limits}{name}"


def _safe(text: str) -> str:
    """Text that neither ends a comment nor leaves ASCII."""
    plain = "".join(c if 32 <= ord(c) < 127 and c not in '"\\' else f"u{ord(c):04x}" for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *")


def _parameter(port: Port, const: bool = False) -> str:
    return f"{'const ' if const else ''}{port.c} *{port.argument}"


def _call(model: Api) -> str:
    n = model.name
    text = (
        "Run the model on tensors that say what they are: type, rank, shape and bytes are checked, beside what "
        f"{n}_run checks."
    )
    if len(model.sizes) > 1:
        text += " The shapes of the inputs choose the size."
    params = [
        "const tesa_tensor *inputs", "int32_t inputs_count", "const tesa_tensor *outputs", "int32_t outputs_count",
        "void *arena", "size_t arena_bytes", "tesa_launch launch", "void *user",
    ]  # fmt: skip
    return f"{_comment(text)}\n{_declared(f'int {n}_call', params)}"


def _queries(model: Api) -> str:
    n = model.name
    rows = [
        (f"size_t {n}_arena_bytes(void);", "Bytes of an arena, for every size of the model."),
        (f"int32_t {n}_sizes(void);", "The number of sizes that the model takes."),
        (f"int32_t {n}_inputs(void);", "The number of inputs."),
        (f"int32_t {n}_outputs(void);", "The number of outputs."),
        (f"const tesa_tensor *{n}_input(int32_t size, int32_t index);",
         "Name, shape, type and bytes of an input at a size, both counted from 0; null where there is none."),
        (f"const tesa_tensor *{n}_output(int32_t size, int32_t index);", "The same of an output."),
        (f"const char *{n}_error(int status);", "A status in words."),
        (f"size_t {n}_missing(char *text, size_t bytes);",
         "The instruction sets that the model needs and this CPU lacks, as \"avx2, fma\", cut to bytes; answers the "
         "length of the whole text, 0 where the model can run here."),
        (f"const char *{n}_target(void);", "What the model was compiled for."),
        (f"const char *{n}_version(void);", "The tesa that compiled it."),
        (f"const char *{n}_digest(void);", "The digest in the description, the .json that lies beside the library."),
    ]  # fmt: skip
    return "\n".join(f"{_comment(text)}\n{declared}" for declared, text in rows)


def _declared(start: str, params: Sequence[str]) -> str:
    """A declaration, in lines of at most 120 letters."""
    lines, line = [], f"{start}("
    for param in params:
        word = f"{param}, " if param is not params[-1] else f"{param});"
        if len(line) + len(word.rstrip()) > 120:
            lines.append(line.rstrip())
            line = "    "
        line += word
    return "\n".join([*lines, line])


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, 114)
    return "/* " + "\n   ".join(lines) + " */"
