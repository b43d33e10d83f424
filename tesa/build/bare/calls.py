"""The functions for applications that know a model only when they run, in LLVM's language: NAME_call and queries."""

from collections.abc import Sequence

from tesa.build.bare.ports import STATUS, Api, Size

TENSOR = "{ ptr, ptr, ptr, i32, i32, i64 }"
"""struct tesa_tensor: data, name, shape, rank, type, bytes."""

CODES = {name: number for number, name in enumerate(STATUS)}


def call(model: Api, word: str) -> str:
    """The function for callers that know the model only when they run."""
    n, first = model.name, model.sizes[0]
    inputs, outputs = len(first.inputs), len(first.outputs)
    several = len(model.sizes) > 1
    lines = []
    for number, size in enumerate(model.sizes):
        after = f"try{number + 1}" if number + 1 < len(model.sizes) else "misshaped"
        lines.append(f"try{number}:")
        if several:
            lines += [
                f"  %fits{number} = call i32 @{n}_shaped(ptr %inputs, ptr @{n}_ports{number}, i32 {inputs})",
                f"  %is{number} = icmp eq i32 %fits{number}, 1",
                f"  br i1 %is{number}, label %size{number}, label %{after}",
            ]
        else:
            lines.append(f"  br label %size{number}")
        lines += _call_size(n, size, number)
    params = (
        "ptr %inputs, i32 %inputs.count, ptr %outputs, i32 %outputs.count, ptr %arena, "
        f"{word} %arena.bytes, ptr %launch, ptr %user"
    )
    return f"""
define i32 @{n}_call({params}) {{
entry:
  %a = icmp eq i32 %inputs.count, {inputs}
  %b = icmp eq i32 %outputs.count, {outputs}
  %c = and i1 %a, %b
  br i1 %c, label %counted, label %count
counted:
  %d = icmp eq ptr %inputs, null
  %e = and i1 %d, {"true" if inputs else "false"}
  %f = icmp eq ptr %outputs, null
  %g = or i1 %e, %f
  br i1 %g, label %null, label %room
room:
  %h = icmp ult {word} %arena.bytes, {model.arena}
  br i1 %h, label %arena.small, label %try0
{chr(10).join(lines)}
count:
  ret i32 {CODES["COUNT"]}
null:
  ret i32 {CODES["NULL"]}
arena.small:
  ret i32 {CODES["ARENA"]}
misshaped:
  ret i32 {CODES["SHAPE"]}
}}"""


def _call_size(n: str, size: Size, number: int) -> list[str]:
    inputs = len(size.inputs)
    lines = [
        f"size{number}:",
        f"  %x{number} = call i32 @{n}_checked(ptr %inputs, ptr @{n}_ports{number}, i32 {inputs})",
        f"  %xb{number} = icmp ne i32 %x{number}, 0",
        f"  br i1 %xb{number}, label %bad.x{number}, label %out{number}",
        f"bad.x{number}:",
        f"  ret i32 %x{number}",
        f"out{number}:",
        f"  %w{number} = getelementptr {TENSOR}, ptr @{n}_ports{number}, i32 {inputs}",
        f"  %y{number} = call i32 @{n}_checked(ptr %outputs, ptr %w{number}, i32 {len(size.outputs)})",
        f"  %yb{number} = icmp ne i32 %y{number}, 0",
        f"  br i1 %yb{number}, label %bad.y{number}, label %go{number}",
        f"bad.y{number}:",
        f"  ret i32 %y{number}",
        f"go{number}:",
    ]
    pointers = []
    for side, count in (("inputs", inputs), ("outputs", len(size.outputs))):
        for i in range(count):
            at = f"{side}{number}.{i}"
            lines += [
                f"  %{at}.p = getelementptr {TENSOR}, ptr %{side}, i32 {i}, i32 0",
                f"  %{at} = load ptr, ptr %{at}.p",
            ]
            pointers.append(f"ptr %{at}")
    arguments = ", ".join([*pointers, "ptr %arena", "ptr %launch", "ptr %user"])
    return [
        *lines,
        f"  %z{number} = call i32 @{n}_run_parallel{size.suffix}({arguments})",
        f"  ret i32 %z{number}",
    ]


def queries(model: Api, word: str) -> str:
    n, first = model.name, model.sizes[0]
    numbers = {"sizes": len(model.sizes), "inputs": len(first.inputs), "outputs": len(first.outputs)}
    parts = [f"define i32 @{n}_{key}() {{\n  ret i32 {value}\n}}" for key, value in numbers.items()]
    parts.append(f"define {word} @{n}_arena_bytes() {{\n  ret {word} {model.arena}\n}}")
    parts += [f"define ptr @{n}_{key}() {{\n  ret ptr @{n}_text_{key}\n}}" for key in ("version", "target", "digest")]
    parts.append(f"""define ptr @{n}_error(i32 %status) {{
  %known = icmp ult i32 %status, {len(STATUS)}
  %place = select i1 %known, i32 %status, i32 {len(STATUS)}
  %p = getelementptr ptr, ptr @{n}_statuses, i32 %place
  %text = load ptr, ptr %p
  ret ptr %text
}}""")
    parts += [_query(n, "input", model.sizes, 0, len(first.inputs))]
    parts += [_query(n, "output", model.sizes, len(first.inputs), len(first.outputs))]
    return "\n".join(parts)


def _query(n: str, side: str, sizes: Sequence[Size], start: int, count: int) -> str:
    """NAME_input(size, index) or NAME_output: the description, null where there is none."""
    tables = ", ".join(f"ptr @{n}_ports{number}" for number in range(len(sizes)))
    return f"""@{n}_{side}s_of = private unnamed_addr constant [{len(sizes)} x ptr] [{tables}]
define ptr @{n}_{side}(i32 %size, i32 %index) {{
  %a = icmp ult i32 %size, {len(sizes)}
  %b = icmp ult i32 %index, {count}
  %c = and i1 %a, %b
  br i1 %c, label %known, label %unknown
known:
  %table.p = getelementptr ptr, ptr @{n}_{side}s_of, i32 %size
  %table = load ptr, ptr %table.p
  %place = add i32 %index, {start}
  %tensor = getelementptr {TENSOR}, ptr %table, i32 %place
  ret ptr %tensor
unknown:
  ret ptr null
}}"""
