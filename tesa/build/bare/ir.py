"""LLVM's language as text: the network's functions, and the regions in which tasks run on threads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tesa.build.bare.arena import ALIGNMENT, Plan
from tesa.build.bare.network import Call, Calls, Function
from tesa.schedules.cpu.lifting import Region

THREADS = "{ ptr, ptr, i32 }"
"""What the pointer to threads stands for: the application's launch function, its user, and whether a launch failed."""

_COPY = """
define internal void @{name}_copy(ptr %from, ptr %to, i64 %bytes) {{
entry:
  %none = icmp eq i64 %bytes, 0
  br i1 %none, label %done, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %p = getelementptr i8, ptr %from, i64 %i
  %q = getelementptr i8, ptr %to, i64 %i
  %v = load volatile i8, ptr %p
  store i8 %v, ptr %q
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %bytes
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def escaped(text: str) -> str:
    """As a string of LLVM's language."""
    made = []
    for byte in text.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\'
        made.append(chr(byte) if plain else f"\\{byte:02X}")
    return "".join(made)


def constants(name: str, sizes: Sequence[int], file: Path, arch: str) -> str:
    """The constants of a network, which lie in a file one behind the other, as the symbol NAME_constants."""
    symbol = f"{name}_constants"
    kind = {"x86": '"a",@progbits', "aarch64": '"a",%progbits', "wasm32": '"",@'}[arch]
    lines = [f".section .rodata.{symbol},{kind}", f".p2align {ALIGNMENT.bit_length() - 1}", f".hidden {symbol}"]
    lines += [f".globl {symbol}", f".type {symbol},{'%' if arch == 'aarch64' else '@'}object", f"{symbol}:"]
    lines += [f'.incbin "{file}"', f".size {symbol}, {max(sum(sizes), 1)}"]
    made = [f'module asm "{escaped(line)}"' for line in lines]
    return "\n".join([*made, f"@{symbol} = external hidden constant i8, align {ALIGNMENT}"])


def region(one: Region) -> str:
    """The function that runs the tasks of a parallel loop: by the application's launch, else one after the other."""
    every = [*one.types, *["ptr"] * len(one.places)]
    packed = f"{{ {', '.join(every) or 'i8'} }}"
    unpack, arguments = [], []
    for i, kind in enumerate(every):
        unpack += [f"  %p{i} = getelementptr {packed}, ptr %data, i32 0, i32 {i}", f"  %v{i} = load {kind}, ptr %p{i}"]
        place = i - len(one.types)
        if place >= 0:
            unpack += [
                f"  %o{i} = mul i64 %wide, {padded(one.places[place])}",
                f"  %w{i} = getelementptr i8, ptr %v{i}, i64 %o{i}",
            ]
        arguments.append(f"{kind} %{'w' if place >= 0 else 'v'}{i}")
    params = [f"{kind} %a{i}" for i, kind in enumerate(every)]
    pack = []
    for i, kind in enumerate(every):
        pack += [f"  %s{i} = getelementptr {packed}, ptr %data, i32 0, i32 {i}", f"  store {kind} %a{i}, ptr %s{i}"]
    declared = ", ".join([*every, "i32"])
    return f"""
declare i32 @{one.task}({declared})
define internal void @{one.symbol}_run(ptr %data, i32 %number) {{
  %wide = zext i32 %number to i64
{chr(10).join(unpack)}
  call i32 @{one.task}({", ".join([*arguments, "i32 %number"])})
  ret void
}}
define hidden i32 @{one.symbol}({", ".join(["ptr %threads", *params])}) {{
entry:
  %data = alloca {packed}, align 16
{chr(10).join(pack)}
  %serial = icmp eq ptr %threads, null
  br i1 %serial, label %loop, label %ask
ask:
  %launch = load ptr, ptr %threads
  %userp = getelementptr {THREADS}, ptr %threads, i32 0, i32 1
  %user = load ptr, ptr %userp
  %failed = getelementptr {THREADS}, ptr %threads, i32 0, i32 2
  %before = load i32, ptr %failed
  %lost = icmp ne i32 %before, 0
  br i1 %lost, label %done, label %go
go:
  %answer = call i32 %launch(ptr %user, ptr @{one.symbol}_run, ptr %data, i32 {one.tasks})
  store i32 %answer, ptr %failed
  ret i32 0
loop:
  %i = phi i32 [ 0, %entry ], [ %next, %loop ]
  call void @{one.symbol}_run(ptr %data, i32 %i)
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, {one.tasks}
  br i1 %more, label %loop, label %done
done:
  ret i32 0
}}"""


def _unless_lost(number: int) -> list[str]:
    """Return where a launch has failed: what follows would take what is in the arena for numbers, or for indices."""
    return [
        f"  %alone{number} = icmp eq ptr %threads, null",
        f"  br i1 %alone{number}, label %next{number}, label %ask{number}",
        f"ask{number}:",
        f"  %failed{number} = getelementptr {THREADS}, ptr %threads, i32 0, i32 2",
        f"  %answer{number} = load i32, ptr %failed{number}",
        f"  %lost{number} = icmp ne i32 %answer{number}, 0",
        f"  br i1 %lost{number}, label %end{number}, label %next{number}",
        f"end{number}:",
        "  ret i32 0",
        f"next{number}:",
    ]


def padded(size: int) -> int:
    """Bytes that a place takes where others follow it."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def network(name: str, calls: Calls, plans: Mapping[str, Plan]) -> str:
    """The functions of a network: NAME_FUNCTION(inputs, outputs, arena, threads)."""
    return _Writer(name, calls, plans).write()


class _Writer:
    def __init__(self, name: str, calls: Calls, plans: Mapping[str, Plan]) -> None:
        self.name, self.calls, self.plans = name, calls, plans
        self.offsets: list[int] = []
        at = 0
        for array in calls.constants:
            self.offsets.append(at)
            at += padded(array.nbytes)

    def write(self) -> str:
        parts = [_COPY.format(name=self.name)]
        declared: dict[str, int] = {}
        for one in self.plans.values():
            parts.append(self._function(one, declared))
        heads = [f"declare i32 @{symbol}({', '.join(['ptr'] * count)})" for symbol, count in sorted(declared.items())]
        return "\n".join([*heads, *parts])

    def _function(self, one: Plan, declared: dict[str, int]) -> str:
        function = one.function
        params = [f"ptr %input{i}" for i in range(len(function.inputs))]
        params += [f"ptr %output{i}" for i in range(len(function.outputs))]
        every = ", ".join([*params, "ptr %arena", "ptr %threads"])
        lines = [f"define internal i32 @{self.name}_{function.name}({every}) {{"]
        for number, call in enumerate(function.calls):
            lines += self._call(number, call, one.offsets, function, declared)
            if call.threads and call is not function.calls[-1]:
                lines += _unless_lost(number)
        return "\n".join([*lines, "  ret i32 0", "}"])

    def _call(
        self, number: int, call: Call, offsets: Sequence[int], function: Function, declared: dict[str, int]
    ) -> list[str]:
        lines, arguments = [], []
        for i, ref in enumerate((*call.arguments, *call.scratch)):
            if ref.kind in ("input", "output"):
                arguments.append(f"ptr %{ref.kind}{ref.index}")
                continue
            base, offset = "%arena", offsets[ref.index] if ref.kind == "buffer" else 0
            if ref.kind == "constant":
                base, offset = f"@{self.name}_constants", self.offsets[ref.index]
            lines.append(f"  %c{number}_{i} = getelementptr i8, ptr {base}, i64 {offset}")
            arguments.append(f"ptr %c{number}_{i}")
        if not call.symbol:
            size = function.outputs[call.arguments[1].index].bytes
            return [*lines, f"  call void @{self.name}_copy({', '.join(arguments)}, i64 {size})"]
        arguments += ["ptr %threads"] if call.threads else []
        if call.symbol in self.plans:
            return [*lines, f"  call i32 @{self.name}_{call.symbol}({', '.join(arguments)})"]
        declared[call.symbol] = len(arguments)
        return [*lines, f"  call i32 @{call.symbol}({', '.join(arguments)})"]
