"""Analysis of the PrimFuncs that Relax legalizes an operator to: what they read, compute and cost.

The questions: is it element-wise, so that f(0) may be asked once for all places; which inputs are places (indices) that
other tensors are read or written at; how much work is one run; which numbers does it compare or compute with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import SBlock, SBlockRealize


@dataclass(frozen=True)
class Reading:
    """The findings about a PrimFunc. places: the numbers of the parameters that indices are computed from.

    indirect: an index comes from a tensor, a parameter or another one. steps: how many stores one run makes. numbers:
    the constants in what it computes.
    """

    indirect: bool
    places: frozenset[int]
    steps: int
    numbers: tuple[float, ...]


def read(func: Any) -> Reading:
    """Read a PrimFunc.

    >>> from tvm import te
    >>> x = te.placeholder((4,), "float32")
    >>> double = te.create_prim_func([x, te.compute((4,), lambda i: x[i] * 2.0)])
    >>> read(double)
    Reading(indirect=False, places=frozenset(), steps=4, numbers=(2.0,))
    """
    loaded = _loaded_variables(func)
    number = {param: i for i, param in enumerate(func.params)}
    sources: list[Any] = []
    values: list[Any] = []

    def access(node: Any) -> None:
        for index in node.indices:
            sources.extend(_sources(index, loaded))

    def store(node: Any) -> None:
        access(node)
        values.append(node.value)

    tvm_ffi.structural_walk(func.body, [(TensorLoad, access), (tirx.BufferStore, store)])
    known = {number[s] for s in sources if s in number}
    places = frozenset(known if len(known) == len(set(sources)) else range(len(func.params) - 1))
    return Reading(bool(sources), places if sources else frozenset(), _steps(func.body), _numbers(values))


def _loaded_variables(func: Any) -> dict[Any, list[Any]]:
    """The scalar variables that hold something out of a tensor, with the tensors."""
    bound: list[tuple[Any, tuple[Any, ...]]] = []

    def realize(node: Any) -> None:
        for iteration, value in zip(node.block.iter_vars, node.iter_values, strict=True):
            bound.append((iteration.var, (value,)))

    tvm_ffi.structural_walk(
        func.body,
        [
            ((tirx.Bind, tirx.Let), lambda node: bound.append((node.var, (node.value,)))),
            (tirx.For, lambda node: bound.append((node.loop_var, (node.min, node.extent)))),
            (SBlockRealize, realize),
        ],
    )
    loaded: dict[Any, list[Any]] = {}
    while True:
        before = len(loaded)
        for var, values in bound:
            found = [s for value in values for s in _sources(value, loaded)]
            if found and var not in loaded:
                loaded[var] = found
        if len(loaded) == before:
            return loaded


def _sources(expr: Any, loaded: dict[Any, list[Any]]) -> list[Any]:
    """The tensors that an index is computed from."""
    found: list[Any] = []
    tvm_ffi.structural_walk(
        expr,
        [
            (TensorLoad, lambda node: found.append(node.source)),
            (tirx.Var, lambda var: found.extend(loaded.get(var, ()))),
        ],
    )
    return found


def _steps(body: Any) -> int:
    """The stores of one run; a loop whose length is not static counts once."""
    total, times = 0, [1]

    def loop(node: Any, visitor: Any) -> None:
        extent = node.extent.value if isinstance(node.extent, tirx.IntImm) else 1
        times.append(times[-1] * max(extent, 1))
        visitor.visit(node.body)
        times.pop()

    def store(node: Any, visitor: Any) -> None:
        nonlocal total
        total += times[-1]

    tvm_ffi.structural_visit(body, [(tirx.For, loop), (tirx.BufferStore, store)])
    return total


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    found: set[float] = set()

    def load(node: Any, visitor: Any) -> None:
        """Indices are no numbers that the operator computes with."""

    def number(node: Any, visitor: Any) -> None:
        found.add(float(node.value))

    for value in values:
        tvm_ffi.structural_visit(value, [(TensorLoad, load), ((tirx.FloatImm, tirx.IntImm), number)])
    return tuple(sorted(found))


def bounded(func: Any) -> Any:
    """The function made safe for any input: where it is defined nothing changes, elsewhere it does not crash.

    Indices that come out of a tensor are clamped into their axis, lengths of loops that do so to the largest tensor,
    and an integer division by 0 divides by 1.
    """
    loaded = _loaded_variables(func)
    longest = max((_length(p) for p in func.params if hasattr(p, "shape")), default=1)

    def clamped(expr: Any, high: int) -> Any:
        dtype = str(expr.ty.dtype)
        return tirx.min(tirx.max(expr, tirx.const(0, dtype)), tirx.const(high, dtype))

    def inside(indices: Any, shape: Any) -> list[Any] | None:
        if not any(_sources(index, loaded) for index in indices):
            return None
        pairs = zip(indices, shape, strict=True)
        return [clamped(index, int(n) - 1) if _sources(index, loaded) else index for index, n in pairs]

    def load(node: Any) -> Any:
        indices = inside(node.indices, node.source.shape)
        return node if indices is None else tirx.BufferLoad(node.source, indices)

    def store(node: Any) -> Any:
        indices = inside(node.indices, node.buffer.shape)
        return node if indices is None else tirx.BufferStore(node.buffer, node.value, indices)

    def loop(node: Any) -> Any:
        if not _sources(node.extent, loaded):
            return node
        extent = clamped(node.extent, longest)
        return tirx.For(node.loop_var, node.min, extent, node.kind, node.body, node.thread_binding, node.annotations)

    changes = [
        (TensorLoad, load),
        (tirx.BufferStore, store),
        (tirx.For, loop),
        ((tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod), lambda node: _divided(node, loaded)),
    ]
    return tirx.PrimFunc(func.params, tvm_ffi.structural_map(func.body, changes), func.ret_type, func.attrs)


def _divided(node: Any, loaded: dict[Any, list[Any]]) -> Any:
    """An integer division that no divisor makes trap: 0 counts as 1, and -1, whose quotient may overflow, is apart."""
    dtype = str(node.ty.dtype)
    if not dtype.startswith(("int", "uint")) or not _sources(node.b, loaded):
        return node
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
    if dtype.startswith("uint"):
        return type(node)(node.a, tirx.Select(node.b == zero, one, node.b))
    minus = node.b == tirx.const(-1, dtype)
    plain = type(node)(node.a, tirx.Select(tirx.any(node.b == zero, minus), one, node.b))
    negated = zero - node.a if isinstance(node, tirx.Div | tirx.FloorDiv) else zero
    return tirx.Select(minus, negated, plain)


def is_elementwise(func: Any, shape: tuple[int, ...], data: frozenset[int]) -> bool:
    """True if each element of the output is one function, the same in every place, of the element in its place.

    data: the numbers of the parameters, of the given shape, that this holds for; the other ones must have one element.
    Every block must store one value at its own place, read the others there and use the place for nothing else.
    """
    uniform = {p for i, p in enumerate(func.params) if i not in data and i + 1 < len(func.params)}
    if any(_length(p) != 1 for p in uniform) or any(_dims(func.params[i]) != shape for i in (*data, -1)):
        return False
    blocks: list[Any] = []
    stores: list[Any] = []
    others: list[Any] = []
    tvm_ffi.structural_walk(
        func.body,
        [
            (SBlock, lambda node: blocks.append(node) if node.name_hint != "root" else None),
            (tirx.BufferStore, stores.append),
            ((tirx.Evaluate, tirx.IfThenElse, tirx.While), others.append),
        ],
    )
    if others or len(stores) != len(blocks):
        return False
    reached: set[Any] = set()
    for block in blocks:
        kind = _block_kind(block, shape, uniform)
        if kind is None:
            return False
        if kind == "uniform":
            uniform.add(block.body.buffer)
        reached.add(block.body.buffer)
    output = func.params[-1]
    return output in reached and output not in uniform


def _block_kind(block: Any, shape: tuple[int, ...], uniform: set[Any]) -> str | None:
    """ "data" or "uniform": what the block stores; None if it is not element-wise."""
    store = block.body
    if not isinstance(store, tirx.BufferStore) or block.init is not None:
        return None
    places = [iteration.var for iteration in block.iter_vars]
    own = [index for index in store.indices if isinstance(index, tirx.Var)]
    plain = all(isinstance(n, tirx.Var) or (isinstance(n, tirx.IntImm) and n.value == 0) for n in store.indices)
    if not plain or len(set(own)) != len(own) or any(v not in places for v in own):
        return None
    if any(iteration.iter_type != tirx.IterVar.DataPar for iteration in block.iter_vars):
        return None
    kind, good = "uniform", True

    def load(node: Any, visitor: Any) -> None:
        nonlocal kind, good
        if node.source not in uniform:
            kind = "data"
            same = tvm_ffi.structural_equal(list(node.indices), list(store.indices))
            good = good and same and _dims(node.source) == shape == _dims(store.buffer)

    def variable(node: Any, visitor: Any) -> None:
        nonlocal good
        good = False

    tvm_ffi.structural_visit(store.value, [(TensorLoad, load), (tirx.Var, variable)])
    return kind if good else None


def _dims(buffer: Any) -> tuple[int, ...]:
    return tuple(int(n) if isinstance(n, int | tirx.IntImm) else -1 for n in buffer.shape)


def _length(buffer: Any) -> int:
    return math.prod(_dims(buffer))


def primfuncs(mod: Any) -> dict[str, Any]:
    """The PrimFuncs of a module by name."""
    return {g.name_hint: f for g, f in mod.functions.items() if isinstance(f, tvm.tirx.PrimFunc)}
