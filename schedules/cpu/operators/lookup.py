"""A table of 256 bytes: any function of one code, with a code as its result, is a byte for each of its codes.

before:  for i: y[i] = quantize(f(dequantize(x[i])))        after:  for i: y[i] = table[x[i]]
Where a permutation takes bytes from two registers, the table is four of them: two permutations, of which the top bit of
a code chooses, are 64 bytes.
"""

from math import prod
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import flat, function, loop, named, parallel, parameter, serial, span
from tesa.schedules.types import Core, Permute

TABLE = 256
_REGISTERS = 2
_PARALLEL_BYTES = 1 << 18


def permutes_table(core: Core) -> Permute | None:
    """The instruction by which a quarter register of a table is read; None where a core has none for half a table."""
    found = core.permute_bytes
    wide = found is not None and bool(found.intrinsic(_REGISTERS)) and 4 * core.lanes * _REGISTERS * 2 == TABLE
    return found if wide else None


def lookup(shape: tuple[int, ...], core: Core, threads: int = 1, kinds: tuple[str, str] = ("uint8", "uint8")) -> Any:
    """A PrimFunc (x, table, y): y[..] = table[the byte x[..]]. Only for a core with permutes_table().

    shape: of x and y; kinds: theirs, "uint8" or "int8", whose bytes count. table: (256,) uint8.

    >>> from tesa.targets.target import parse_target
    >>> [str(p.dtype) for p in lookup((4, 100), parse_target("x86:icelake-server").core).params]
    ['uint8', 'uint8', 'uint8']
    """
    permute, size, count = permutes_table(core), 4 * core.lanes, prod(shape)
    if permute is None:
        raise ValueError(f"core {core.name} has no permutation of {TABLE // 2} bytes")
    with function("lookup") as builder:
        x, table = parameter("x", shape, kinds[0]), parameter("table", (TABLE,), "uint8")
        y = parameter("y", shape, kinds[1])
        source, target = named("codes", flat(x)), named("found", flat(y))
        quarters = [T.Bind(_bytes(table[T.ramp(i * size, 1, size)], size)) for i in range(4)]

        def vector(at: Any) -> None:
            found = _permuted(permute, quarters, _bytes(source[T.ramp(at, 1, size)], size), size)
            T.buffer_store(target, tirx.reinterpret(f"{kinds[1]}x{size}", found), [T.ramp(at, 1, size)])

        whole, rest = divmod(count, size)
        tasks = threads if count >= _PARALLEL_BYTES else 1
        if tasks > 1:
            with parallel("task", tasks) as i, span("v", i * whole // tasks, (i + 1) * whole // tasks) as v:
                vector(v * size)
        elif whole:
            with loop("v", whole) as v:
                vector(v * size)
        if rest and whole:
            vector(count - size)
        elif rest:
            with serial("i", rest) as i:
                code = T.Cast("int32", tirx.reinterpret("uint8", source[i]))
                T.buffer_store(target, tirx.reinterpret(kinds[1], table[code]), [i])
    return builder.get().without_attr("global_symbol").with_attr("op_pattern", 8)


def _bytes(value: Any, size: int) -> Any:
    return tirx.reinterpret(f"int8x{size}", value)


def _permuted(permute: Permute, quarters: list[Any], codes: Any, size: int) -> Any:
    """The bytes of the table at these codes."""
    codes, name = T.Bind(codes), permute.intrinsic(_REGISTERS)
    halves = []
    for pair in (quarters[:2], quarters[2:]):
        place = len(pair) if permute.place is None else permute.place
        arguments = [*pair[:place], codes, *pair[place:]]
        halves.append(T.Bind(tirx.call_llvm_pure_intrin(f"int8x{size}", name, *arguments)))
    upper = codes < tirx.Broadcast(tirx.IntImm("int8", 0), size)
    return tirx.Select(upper, halves[1], halves[0])
