"""Moves, conversions, loads and stores of PTX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault
from tests.gpu.numbers import flush, to_tf32
from tests.gpu.ptx.machine import SHARED_WINDOW, Block, Copy, Step
from tests.gpu.ptx.operands import Code, plain
from tests.gpu.ptx.table import instruction
from tests.gpu.ptx.text import BYTES

HINTS = (
    *("ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1::evict_normal", "L1::evict_first", "L1::evict_last"),
    *("L1::evict_unchanged", "L1::no_allocate", "L2::64B", "L2::128B", "L2::256B"),
)
ANY = "pred b8 b16 b32 b64 u8 u16 u32 u64 s8 s16 s32 s64 f32 f64"


@instruction("mov", computes=True)
def _move(code: Code) -> Step:
    kind = code.type(ANY)
    code.done(2)
    target, source = code.operands
    if isinstance(source, tuple) and source[0] != "!":
        return _pack(code, kind, source)
    if isinstance(target, tuple):
        return _unpack(code, kind, target)
    put, a = code.write(0, kind), code.bits(1, kind)
    return lambda block: put(block, a(block))


def _pack(code: Code, kind: str, parts: tuple[Any, ...]) -> Step:
    size = BYTES[kind] // len(parts)
    put, sources = code.write(0, kind), [code.bits(part, f"b{8 * size}") for part in parts]
    dtype = plain(f"b{8 * BYTES[kind]}")

    def step(block: Block) -> None:
        value = np.zeros((), dtype)
        for at, source in enumerate(sources):
            value = value | np.asarray(source(block)).astype(dtype) << dtype.type(8 * size * at)
        put(block, value.view(plain(kind)))

    return step


def _unpack(code: Code, kind: str, parts: tuple[Any, ...]) -> Step:
    size = BYTES[kind] // len(parts)
    puts, a = [code.write(part, f"b{8 * size}") for part in parts], code.bits(1, f"b{8 * BYTES[kind]}")

    def step(block: Block) -> None:
        value = np.asarray(a(block))
        for at, put in enumerate(puts):
            put(block, value >> value.dtype.type(8 * size * at))

    return step


@instruction("cvta", computes=True)
def _generic(code: Code) -> Step:
    code.type("u64")
    back = bool(code.flag("to"))
    space = code.must("global", "shared", "const", "local")
    code.done(2)
    put, a = code.write(0, "u64"), code.bits(1, "u64")
    offset = np.uint64(SHARED_WINDOW if space == "shared" else 0)
    return lambda block: put(block, a(block) - offset if back else a(block) + offset)


@instruction("cvt", computes=True)
def _convert(code: Code) -> Step:
    words = code.rest()
    kinds = [word for word in words if word in BYTES]
    flags = [word for word in words if word not in BYTES]
    code.done((2, 3))
    if len(kinds) != 2 or not set(flags) <= {*ROUND, "rn", "rna", "rz", "sat", "ftz", "satfinite", "relu"}:
        raise code.fail("cvt of this kind")
    target, source = kinds
    if target in ("f16x2", "bf16x2"):
        high, low, put = code.read(1, "f32"), code.read(2, "f32"), code.write(0, target)
        if "rn" not in flags:
            raise code.fail("cvt without .rn")

        def pair(block: Block) -> None:
            ends = np.broadcast_arrays(low(block), high(block), block.threads)[:2]
            value = np.stack(ends, -1)
            put(block, np.maximum(value, 0) if "relu" in flags else value)

        return pair
    read, write = code.read(1, source, wider=True), code.write(0, target, wider=True)
    change = _conversion(code, target, source, flags)
    return lambda block: write(block, change(np.asarray(read(block))))


ROUND: dict[str, Callable[[Any], Any]] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _conversion(code: Code, target: str, source: str, flags: list[str]) -> Callable[[Any], Any]:
    to_float, from_float = (k in ("f16", "bf16", "f32", "f64", "tf32") for k in (target, source))
    if from_float and not to_float:
        rounds = [ROUND[flag] for flag in flags if flag in ROUND]
        if len(rounds) != 1:
            raise code.fail("from a float to an integer takes .rni, .rzi, .rmi or .rpi")
        return lambda x: _clip(np.nan_to_num(rounds[0](x.astype(np.float64)), nan=0.0), target)
    if to_float and not from_float:
        if not {"rn", "rz"} & set(flags):
            raise code.fail("from an integer to a float takes a rounding")
        return lambda x: x.astype(np.float64)
    if to_float:
        if target == "tf32":
            return lambda x: to_tf32(x)
        if BYTES[target] < BYTES[source] and "rn" not in flags:
            raise code.fail("to fewer bits takes .rn")

        def change(x: Any) -> Any:
            value = flush(x) if "ftz" in flags and source == "f32" else x
            value = next((ROUND[flag](value) for flag in flags if flag in ROUND), value)
            value = np.clip(np.nan_to_num(value), 0, 1) if "sat" in flags else value
            return np.maximum(value, 0) if "relu" in flags else value

        return change
    return (lambda x: _clip(x, target)) if "sat" in flags else (lambda x: x)


def _clip(value: Any, kind: str) -> Any:
    """Numbers held to the range of an integer type, float64 where they were floats."""
    limits = np.iinfo(plain(kind))
    if value.dtype.kind != "f":
        return np.clip(value.astype(object), limits.min, limits.max).astype(plain(kind))
    low, high = float(limits.min), float(limits.max)
    inside = np.clip(value, low, np.nextafter(high, 0) if high > 2**53 else high)
    return inside.astype(plain(kind))


def _space(code: Code) -> str:
    return code.flag("global", "shared", "param", "const", "local") or "generic"


def _places(block: Block, space: str, addresses: NDArray[np.uint64], size: int) -> tuple[str, NDArray[np.uint64]]:
    """The space that addresses of active threads lie in, and their values there. A Fault for a misaligned one."""
    if (addresses % np.uint64(size)).any():
        raise Fault(f"an address is misaligned for {size} bytes")
    if space == "generic" and len(addresses) and (addresses < np.uint64(1 << 32)).all():
        return "shared", addresses - np.uint64(SHARED_WINDOW)
    if space == "const":
        return "global", addresses
    return ("global" if space == "generic" else space), addresses


def _spread(addresses: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    return addresses.astype(np.int64)[:, None] + np.arange(size)


def fetch(block: Block, space: str, addresses: NDArray[np.uint64], size: int, what: str) -> NDArray[np.uint8]:
    """(n, size) bytes for the active threads."""
    space, places = _places(block, space, addresses, size)
    if space == "shared":
        return block.shared.read(_spread(places, size), block.active)
    return block.launch.memory.read(places, size, what)


def store(block: Block, space: str, addresses: NDArray[np.uint64], values: NDArray[np.uint8], what: str) -> None:
    """Put (n, size) bytes of the active threads."""
    space, places = _places(block, space, addresses, values.shape[1])
    if space == "shared":
        block.shared.write(_spread(places, values.shape[1]), block.active, values)
    else:
        block.launch.memory.write(places, values, what, block.active + block.number * block.count)


@instruction("ld", "ldu")
def _load(code: Code) -> Step:
    kind = code.type(ANY)
    many = int((code.flag("v2", "v4") or "v1")[1:])
    space = _space(code)
    for flags in (("nc",), ("volatile", "relaxed", "acquire", "weak"), ("cta", "gpu", "sys"), HINTS, HINTS):
        code.flag(*flags)
    code.done(2)
    if space in ("local",):
        raise code.fail("local memory")
    if space == "param":
        return _parameter(code, kind, many)
    targets = code.operands[0] if many > 1 else (code.operands[0],)
    if not isinstance(targets, tuple) or len(targets) != many:
        raise code.fail(f"{many} registers")
    puts = [code.write(t, kind, wider=True) for t in targets]
    address, size, dtype = code.address(1, space), BYTES[kind], plain(kind)

    def step(block: Block) -> None:
        found = fetch(block, space, address(block)[block.mask], size * many, "ld")
        words = np.ascontiguousarray(found).view(dtype)
        for at, put in enumerate(puts):
            value = np.zeros(block.count, dtype)
            value[block.mask] = words[:, at]
            put(block, value)

    return step


def _parameter(code: Code, kind: str, many: int) -> Step:
    operand = code.operands[1]
    known = {p.name: p for p in code.kernel.parameters}
    if not isinstance(operand, tuple) or operand[1] not in known:
        raise code.fail("unknown parameter")
    parameter = known[str(operand[1])]
    first, size, dtype = parameter.offset + int(str(operand[2]), 0), BYTES[kind], plain(kind)
    if not parameter.offset <= first <= first + size * many <= parameter.offset + parameter.size:
        raise code.fail(f"beyond the {parameter.size} bytes of {parameter.name}")
    targets = code.operands[0] if many > 1 else (code.operands[0],)
    puts = [code.write(t, kind, wider=True) for t in targets]  # type: ignore[union-attr]

    def step(block: Block) -> None:
        words = np.frombuffer(block.launch.parameters[first : first + size * many], dtype)
        for word, put in zip(words, puts, strict=True):
            put(block, word)

    return step


@instruction("st")
def _store(code: Code) -> Step:
    kind = code.type(ANY)
    many = int((code.flag("v2", "v4") or "v1")[1:])
    space = _space(code)
    for flags in (("volatile", "relaxed", "release", "weak"), ("cta", "gpu", "sys"), HINTS):
        code.flag(*flags)
    code.done(2)
    if space in ("local", "param", "const"):
        raise code.fail(f"a store to {space} memory")
    sources = code.operands[1] if many > 1 else (code.operands[1],)
    if not isinstance(sources, tuple) or len(sources) != many:
        raise code.fail(f"{many} registers")
    reads, address = [code.bits(s, kind, wider=True) for s in sources], code.address(0, space)

    def step(block: Block) -> None:
        words = np.stack([np.broadcast_to(read(block), block.count)[block.mask] for read in reads], -1)
        store(block, space, address(block)[block.mask], np.ascontiguousarray(words).view(np.uint8), "st")

    return step


@instruction("red", "atom")
def _atomic(code: Code) -> Step:
    kind = code.type("u32 s32 f32 f64 u64 f16x2")
    space = _space(code)
    code.flag("relaxed", "release", "acq_rel")
    code.flag("cta", "gpu", "sys")
    code.must("add")
    if kind == "f16x2":
        code.must("noftz")
    answers = code.name == "atom"
    code.done(3 if answers else 2)
    if space != "global" or kind == "f16x2":
        raise code.fail(f"atomics of {kind} in {space} memory")
    put = code.write(0, kind) if answers else None
    address, value = code.address(1 if answers else 0, space), code.bits(2 if answers else 1, kind)

    def step(block: Block) -> None:
        numbers = np.broadcast_to(value(block), block.count)[block.mask]
        before = block.launch.memory.add(address(block)[block.mask], numbers.dtype.str, numbers, code.name)
        if put:
            whole = np.zeros(block.count, numbers.dtype)
            whole[block.mask] = before
            put(block, whole)

    return step


@instruction("prefetch", "membar", "fence", "griddepcontrol")
def _nothing(code: Code) -> Step:
    known = {
        "prefetch": {"global", "L1", "L2"},
        "membar": {"cta", "gl", "sys"},
        "fence": {"sc", "acq_rel", "cta", "gpu", "sys", "proxy", "async", "shared::cta"},
        "griddepcontrol": {"wait", "launch_dependents"},
    }
    words = set(code.rest())
    if not words <= known[code.name]:
        raise code.fail("unknown modifier")
    if "async" in words:
        return lambda block: block.shared.fence(block.active)
    return lambda block: None


@instruction("cp")
def _copy(code: Code) -> Step:
    code.must("async")
    kind = code.must("ca", "cg", "commit_group", "wait_group", "wait_all")
    if kind == "commit_group":
        code.done(0)
        return _commit
    if kind in ("wait_group", "wait_all"):
        code.done(1 if kind == "wait_group" else 0)
        left = int(str(code.operands[0]), 0) if kind == "wait_group" else 0
        return lambda block: _wait(block, left, commits=kind == "wait_all")
    code.must("shared", "shared::cta")
    code.must("global")
    code.flag("L2::64B", "L2::128B", "L2::256B")
    code.done((3, 4))
    size = int(str(code.operands[2]), 0)
    if size not in ((16,) if kind == "cg" else (4, 8, 16)):
        raise code.fail(f"cp.async.{kind} of {size} bytes")
    target, source = code.address(0, "shared"), code.address(1, "global")
    used = code.bits(3, "u32") if len(code.operands) == 4 else None

    def step(block: Block) -> None:
        there, here = target(block)[block.mask], source(block)[block.mask]
        if (there % np.uint64(size)).any() or (here % np.uint64(size)).any():
            raise Fault(f"an address is misaligned for {size} bytes")
        count = np.broadcast_to(used(block), block.count)[block.mask] if used else np.full(len(here), size)
        if (count > size).any():
            raise Fault(f"more than {size} bytes of a source")
        values = np.zeros((len(here), size), np.uint8)
        for n in np.unique(count[count > 0]).tolist():
            values[count == n, :n] = block.launch.memory.read(here[count == n], n, "cp.async")
        places = _spread(there, size)
        block.shared.reserve(places, block.active)
        block.copies.append(Copy(block.active, places, values, np.full(len(here), -1)))

    return step


def _commit(block: Block) -> None:
    for copy in block.copies:
        fresh = (copy.group < 0) & block.mask[copy.threads]
        copy.group[fresh] = block.groups[copy.threads[fresh]] + 1
    block.groups[block.mask] += 1


def _wait(block: Block, left: int, commits: bool) -> None:
    if commits:
        _commit(block)
    kept = []
    for copy in block.copies:
        lands = block.mask[copy.threads] & (copy.group > 0) & (copy.group <= block.groups[copy.threads] - left)
        if lands.any():
            block.shared.land(copy.places[lands], copy.threads[lands], copy.values[lands])
        if not lands.all():
            stays = ~lands
            kept.append(Copy(copy.threads[stays], copy.places[stays], copy.values[stays], copy.group[stays]))
    block.copies = kept
