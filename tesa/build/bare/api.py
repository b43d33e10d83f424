"""The functions of a model that an application calls, as LLVM's language: they check what they are given first."""

import re

from tesa.build.bare.arena import ALIGNMENT
from tesa.build.bare.calls import CODES, TENSOR, call, queries
from tesa.build.bare.ir import THREADS, escaped
from tesa.build.bare.ports import STATUS, Api, Port, Size

_SHAPED = """
define internal i32 @{n}_shaped(ptr %given, ptr %wanted, i32 %count) {{
entry:
  %none = icmp eq i32 %count, 0
  br i1 %none, label %yes, label %tensor
tensor:
  %i = phi i32 [ 0, %entry ], [ %i1, %next ]
  %grank.p = getelementptr {t}, ptr %given, i32 %i, i32 3
  %wrank.p = getelementptr {t}, ptr %wanted, i32 %i, i32 3
  %grank = load i32, ptr %grank.p
  %wrank = load i32, ptr %wrank.p
  %ranks = icmp eq i32 %grank, %wrank
  br i1 %ranks, label %scalar, label %no
scalar:
  %flat = icmp eq i32 %wrank, 0
  br i1 %flat, label %next, label %known
known:
  %gshape.p = getelementptr {t}, ptr %given, i32 %i, i32 2
  %wshape.p = getelementptr {t}, ptr %wanted, i32 %i, i32 2
  %gshape = load ptr, ptr %gshape.p
  %wshape = load ptr, ptr %wshape.p
  %unknown = icmp eq ptr %gshape, null
  br i1 %unknown, label %no, label %axis
axis:
  %a = phi i32 [ 0, %known ], [ %a1, %same ]
  %gn.p = getelementptr i64, ptr %gshape, i32 %a
  %wn.p = getelementptr i64, ptr %wshape, i32 %a
  %gn = load i64, ptr %gn.p
  %wn = load i64, ptr %wn.p
  %equal = icmp eq i64 %gn, %wn
  br i1 %equal, label %same, label %no
same:
  %a1 = add i32 %a, 1
  %axes = icmp slt i32 %a1, %wrank
  br i1 %axes, label %axis, label %next
next:
  %i1 = add i32 %i, 1
  %more = icmp slt i32 %i1, %count
  br i1 %more, label %tensor, label %yes
yes:
  ret i32 1
no:
  ret i32 0
}}
"""
"""1 if tensors have the shapes that are wanted."""

_CHECKED = """
define internal i32 @{n}_checked(ptr %given, ptr %wanted, i32 %count) {{
entry:
  %none = icmp eq i32 %count, 0
  br i1 %none, label %good, label %tensor
tensor:
  %i = phi i32 [ 0, %entry ], [ %i1, %next ]
  %gtype.p = getelementptr {t}, ptr %given, i32 %i, i32 4
  %wtype.p = getelementptr {t}, ptr %wanted, i32 %i, i32 4
  %gtype = load i32, ptr %gtype.p
  %wtype = load i32, ptr %wtype.p
  %types = icmp eq i32 %gtype, %wtype
  br i1 %types, label %shape, label %type
shape:
  %gone = getelementptr {t}, ptr %given, i32 %i
  %wone = getelementptr {t}, ptr %wanted, i32 %i
  %shaped = call i32 @{n}_shaped(ptr %gone, ptr %wone, i32 1)
  %fits = icmp eq i32 %shaped, 1
  br i1 %fits, label %size, label %misshaped
size:
  %gbytes.p = getelementptr {t}, ptr %given, i32 %i, i32 5
  %wbytes.p = getelementptr {t}, ptr %wanted, i32 %i, i32 5
  %gbytes = load i64, ptr %gbytes.p
  %wbytes = load i64, ptr %wbytes.p
  %enough = icmp uge i64 %gbytes, %wbytes
  br i1 %enough, label %next, label %small
next:
  %i1 = add i32 %i, 1
  %more = icmp slt i32 %i1, %count
  br i1 %more, label %tensor, label %good
good:
  ret i32 0
type:
  ret i32 {TYPE}
misshaped:
  ret i32 {SHAPE}
small:
  ret i32 {BYTES}
}}
"""
"""The status of tensors that are given for those that are wanted, but for their data."""


def api(model: Api, word: str) -> str:
    """The functions, and the constants that they answer with. word: LLVM's type of C's size_t.

    They call NAME_FUNCTION of ir.network, and NAME_lacks and NAME_missing of cpu.probe.
    """
    n = model.name
    parts = [_texts(model), *(_ports(n, size, number) for number, size in enumerate(model.sizes))]
    parts += [text.format(n=n, t=TENSOR, **CODES) for text in (_SHAPED, _CHECKED)]
    parts += [_outside(n, kind) for kind in sorted({p.tensor.dtype for s in model.sizes for p in s.inputs if p.limits})]
    for size in model.sizes:
        parts += [_run_parallel(n, size), _run(n, size)]
    parts += [call(model, word), queries(model, word)]
    return "\n".join(parts)


def _text(symbol: str, text: str) -> str:
    length = len(text.encode()) + 1
    return f'@{symbol} = private unnamed_addr constant [{length} x i8] c"{escaped(text)}\\00"'


def _texts(model: Api) -> str:
    n = model.name
    lines = [_text(f"{n}_text_{key}", getattr(model, key)) for key in ("target", "version", "digest")]
    lines += [_text(f"{n}_status_{number}", text) for number, text in enumerate([*STATUS.values(), "unknown status"])]
    pointers = ", ".join(f"ptr @{n}_status_{number}" for number in range(len(STATUS) + 1))
    lines.append(f"@{n}_statuses = private unnamed_addr constant [{len(STATUS) + 1} x ptr] [{pointers}]")
    return "\n".join(lines)


def _ports(n: str, size: Size, number: int) -> str:
    """The constant table of a size's inputs and outputs."""
    lines, rows = [], []
    for i, port in enumerate(size.ports):
        at, shape = f"{n}_port{number}_{i}", port.tensor.shape
        lines.append(_text(f"{at}_name", port.name))
        dims = ", ".join(f"i64 {extent}" for extent in shape)
        lines.append(f"@{at}_shape = private unnamed_addr constant [{len(shape)} x i64] [{dims}]" if shape else "")
        place = f"ptr @{at}_shape" if shape else "ptr null"
        rows.append(
            f"{TENSOR} {{ ptr null, ptr @{at}_name, {place}, i32 {len(shape)}, i32 {port.type}, "
            f"i64 {port.tensor.bytes} }}"
        )
    table = f"@{n}_ports{number} = private unnamed_addr constant [{len(rows)} x {TENSOR}] [{', '.join(rows)}]"
    return "\n".join([*filter(None, lines), table])


def _outside(n: str, dtype: str) -> str:
    """1 if an element of an array, each step-th from first on, is less than low or more than high, or no number."""
    kinds = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "bfloat"}
    kind = kinds.get(dtype) or f"i{re.sub('[a-z]', '', dtype) or 8}"
    wide = "double" if dtype in kinds else "i64"
    convert = "bitcast double %v to double" if kind == "double" else f"fpext {kind} %v to double"
    if wide == "i64":
        extend = "zext" if dtype.startswith(("u", "bool")) else "sext"
        convert = "add i64 %v, 0" if kind == "i64" else f"{extend} {kind} %v to i64"
    at_least, at_most = ("fcmp ogt double", "fcmp olt double") if wide == "double" else ("icmp sge i64", "icmp sle i64")
    bounds = "i64 %first, i64 %step, i64 %low, i64 %high"
    made = ["  %l.w = sitofp i64 %low to double", "  %h.w = sitofp i64 %high to double"]
    made += ["  %l = fsub double %l.w, 1.0", "  %h = fadd double %h.w, 1.0"]  # reals are cut towards zero
    if wide == "i64":
        made = ["  %l = add i64 %low, 0", "  %h = add i64 %high, 0"]
    return f"""
define internal i32 @{n}_outside_{dtype}(ptr %data, i64 %count, {bounds}) {{
entry:
{chr(10).join(made)}
  br label %loop
loop:
  %i = phi i64 [ %first, %entry ], [ %next, %good ]
  %p = getelementptr {kind}, ptr %data, i64 %i
  %v = load {kind}, ptr %p
  %w = {convert}
  %a = {at_least} %w, %l
  %b = {at_most} %w, %h
  %c = and i1 %a, %b
  br i1 %c, label %good, label %bad
good:
  %next = add i64 %i, %step
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %inside
inside:
  ret i32 0
bad:
  ret i32 1
}}"""


def _parameters(size: Size) -> list[str]:
    return [
        *(f"ptr %input{i}" for i in range(len(size.inputs))),
        *(f"ptr %output{i}" for i in range(len(size.outputs))),
        "ptr %arena",
    ]


def _run(n: str, size: Size) -> str:
    params = _parameters(size)
    return f"""
define i32 @{n}_run{size.suffix}({", ".join(params)}) {{
  %status = call i32 @{n}_run_parallel{size.suffix}({", ".join(params)}, ptr null, ptr null)
  ret i32 %status
}}"""


def _run_parallel(n: str, size: Size) -> str:
    """The function that checks pointers, CPU and indices, and runs the network."""
    params = _parameters(size)
    bytes_of = [port.tensor.bytes for port in size.ports]
    pointers = [p.split()[1] for p in params]
    masks = [port.alignment - 1 for port in size.ports] + [ALIGNMENT - 1]
    used = [i for i, pointer in enumerate(pointers) if i >= len(bytes_of) or bytes_of[i]]
    lines = ["  %null0 = icmp eq ptr %arena, null"]
    for step, i in enumerate(used[:-1]):
        lines += [f"  %is{i} = icmp eq ptr {pointers[i]}, null", f"  %null{step + 1} = or i1 %null{step}, %is{i}"]
    lines += [f"  br i1 %null{len(used) - 1}, label %null, label %aligned", "aligned:", "  %bits0 = add i64 0, 0"]
    for step, i in enumerate(used):
        lines += [
            f"  %int{i} = ptrtoint ptr {pointers[i]} to i64",
            f"  %low{i} = and i64 %int{i}, {masks[i]}",
            f"  %bits{step + 1} = or i64 %bits{step}, %low{i}",
        ]
    lines += [f"  %odd = icmp ne i64 %bits{len(used)}, 0", "  br i1 %odd, label %misaligned, label %able", "able:"]
    lines += [f"  %lacks = call i32 @{n}_lacks()", "  %unfit = icmp ne i32 %lacks, 0"]
    limited = [(i, port) for i, port in enumerate(size.inputs) if port.limits and port.tensor.bytes]
    labels = [f"limit{i}" for i, _ in limited] + ["go"]
    lines.append(f"  br i1 %unfit, label %cpu, label %{labels[0]}")
    for (i, port), after in zip(limited, labels[1:], strict=True):
        lines += _limited(n, i, port, after)
    every = [f"ptr {pointer}" for pointer in pointers]
    return f"""
define i32 @{n}_run_parallel{size.suffix}({", ".join([*params, "ptr %launch", "ptr %user"])}) {{
entry:
  %threads = alloca {THREADS}
{chr(10).join(lines)}
go:
  store ptr %launch, ptr %threads
  %user.p = getelementptr {THREADS}, ptr %threads, i32 0, i32 1
  store ptr %user, ptr %user.p
  %failed.p = getelementptr {THREADS}, ptr %threads, i32 0, i32 2
  store i32 0, ptr %failed.p
  %alone = icmp eq ptr %launch, null
  %given = select i1 %alone, ptr null, ptr %threads
  call i32 @{n}_{size.function}({", ".join(every)}, ptr %given)
  %failed = load i32, ptr %failed.p
  %lost = icmp ne i32 %failed, 0
  br i1 %lost, label %threadless, label %done
done:
  ret i32 0
null:
  ret i32 {CODES["NULL"]}
misaligned:
  ret i32 {CODES["ALIGNMENT"]}
cpu:
  ret i32 {CODES["CPU"]}
outside:
  ret i32 {CODES["INDEX"]}
threadless:
  ret i32 {CODES["THREADS"]}
}}"""


def _limited(n: str, index: int, port: Port, after: str) -> list[str]:
    count = port.tensor.bytes // port.alignment
    lines, step = [], len(port.limits)
    for place, (low, high) in enumerate(port.limits):
        at = f"{index}.{place}"
        following = f"limit{index}.{place + 1}" if place + 1 < step else after
        lines += [
            f"limit{at}:" if place else f"limit{index}:",
            f"  %far{at} = call i32 @{n}_outside_{port.tensor.dtype}"
            f"(ptr %input{index}, i64 {count}, i64 {place}, i64 {step}, i64 {low}, i64 {high})",
            f"  %is.far{at} = icmp ne i32 %far{at}, 0",
            f"  br i1 %is.far{at}, label %outside, label %{following}",
        ]
    return lines
