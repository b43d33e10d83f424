"""A scheduled Relax module as functions that are straight lists of calls on buffers whose sizes are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import ir, relax

from tesa.build.bare.legal import with_own_functions
from tesa.errors import UnsupportedError
from tesa.frontend.loops import functions_of

_VIEW = "relax.memory.view"
_SAME_MEMORY = ("relax.reshape", "relax.memory.ensure_zero_offset", _VIEW)


@dataclass(frozen=True)
class Tensor:
    """The type of an argument or a result."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Its size."""
        bits = int(tvm.DataType(self.dtype).bits)
        return prod(self.shape) * max(bits // 8, 1)


@dataclass(frozen=True)
class Ref:
    """A tensor that a call reads or writes: kind "input", "output", "constant" or "buffer", and its number."""

    kind: str
    index: int


@dataclass(frozen=True)
class Call:
    """A call of a kernel or operator by its symbol, or of another function of the network, on some buffers.

    scratch: buffers that only this call uses. symbol "" copies the first argument to the second one.
    """

    symbol: str
    arguments: tuple[Ref, ...]
    scratch: tuple[Ref, ...] = ()
    threads: bool = False


@dataclass(frozen=True)
class Function:
    """A Relax function as a list of calls. buffers: bytes of each. inputs, outputs: their types, in order."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    calls: tuple[Call, ...]
    buffers: tuple[int, ...]


@dataclass(frozen=True)
class Calls:
    """All functions of a module, each behind those that it calls, and the constants that they read.

    operators: the module's functions of TVM by name, as they are called; kernels: symbols of those outside of it.
    """

    functions: tuple[Function, ...]
    constants: tuple[NDArray[Any], ...]
    operators: Mapping[str, Any]
    kernels: frozenset[str]


def calls_of(mod: Any, roots: Sequence[str], target: Any) -> Calls:
    """The calls that functions of a scheduled module make.

    Raises UnsupportedError for what only TVM's virtual machine does.
    """
    passes = [
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
    ]
    mod = with_own_functions(mod, target)
    with target:
        mod = tvm.transform.Sequential(passes)(mod)
    constants = _Constants()
    wanted: dict[str, Any] = {}
    for root in roots:
        wanted |= {var.name_hint: function for var, function in functions_of(mod, root)}
    readers = [_Reader(name, function, mod, constants) for name, function in wanted.items()]
    functions = tuple(reader.function() for reader in readers)
    names = sorted(set().union(*(reader.operators for reader in readers)))
    operators = {name: mod[name] for name in names}
    kernels = frozenset().union(*(reader.kernels for reader in readers))
    return Calls(functions, tuple(constants.arrays), operators, kernels)


class _Constants:
    """Constants by what they hold: equal ones are one."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self._known: dict[bytes, int] = {}

    def add(self, array: NDArray[Any]) -> Ref:
        array = np.ascontiguousarray(array)
        content = array.reshape(-1).view(np.uint8).tobytes() if array.size else b""
        if content not in self._known:
            self._known[content] = len(self.arrays)
            self.arrays.append(array)
        return Ref("constant", self._known[content])


@dataclass
class _Reader:
    """Reads one function. of: a variable -> its Ref, or a list of them for a tuple."""

    name: str
    source: Any
    mod: Any
    constants: _Constants
    of: dict[Any, Any] = field(default_factory=dict)
    buffers: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    operators: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)

    def function(self) -> Function:
        """The function's calls, with its results in the outputs."""
        for index, param in enumerate(self.source.params):
            self.of[param] = Ref("input", index)
        for block in self.source.body.blocks:
            for binding in block.bindings:
                self.of[binding.var] = self._value(binding.var, binding.value)
        refs = _flat(self._place(self.source.body.body))
        types = _types(self.source.body.body.ty)
        calls = self._into_outputs(refs, types)
        inputs = tuple(tensor for param in self.source.params for tensor in _types(param.ty))
        return Function(self.name, inputs, tuple(types), calls, tuple(self.buffers))

    def _into_outputs(self, refs: Sequence[Ref], types: Sequence[Tensor]) -> tuple[Call, ...]:
        """The calls with outputs in place of the buffers that become results; what else is a result is copied."""
        moved: dict[Ref, Ref] = {}
        copies = []
        for index, ref in enumerate(refs):
            output = Ref("output", index)
            if ref.kind == "buffer" and ref not in moved:
                moved[ref] = output
            else:
                copies.append((ref, output, types[index]))
        calls = [replace(call, arguments=tuple(moved.get(ref, ref) for ref in call.arguments)) for call in self.calls]
        calls += [Call("", (moved.get(ref, ref), output)) for ref, output, kind in copies if kind.bytes]
        return tuple(calls)

    def _value(self, var: Any, value: Any) -> Any:
        """The value of a binding: a Ref or a list of them; a call is noted."""
        if not isinstance(value, ir.Call):
            return self._place(value)
        operator = value.op
        name = getattr(operator, "name", "") or getattr(operator, "global_symbol", "")
        if isinstance(operator, ir.GlobalVar):
            return self._called(operator, value)
        if isinstance(operator, relax.ExternFunc):
            self.kernels.add(str(operator.global_symbol))
            self.calls.append(Call(str(operator.global_symbol), self._arguments(value)))
            return []
        if name == "relax.builtin.alloc_tensor":
            return self._buffer(Tensor(tuple(int(n) for n in value.args[0].values), str(value.args[1].value)).bytes)
        if name in _SAME_MEMORY and not (name == _VIEW and _begins_later(value)):
            return self._place(value.args[0])
        raise UnsupportedError(
            f"{self.name}: operator {name or operator} needs TVM's virtual machine; compile with --format vm"
        )

    def _called(self, operator: Any, value: Any) -> Any:
        """A call of a function of the module: an operator's, which writes its results, or one of Relax."""
        name = operator.name_hint
        if not isinstance(self.mod[operator], relax.Function):
            self.operators.add(name)
            self.calls.append(Call(name, self._arguments(value)))
            return []
        results = [self._buffer(tensor.bytes) for tensor in _types(value.ty)]
        self.calls.append(Call(name, (*self._arguments(value), *results)))
        return results if isinstance(value.ty, ir.TupleType) else results[0]

    def _arguments(self, value: Any) -> tuple[Ref, ...]:
        return tuple(ref for argument in value.args for ref in _flat(self._place(argument)))

    def _buffer(self, size: int) -> Ref:
        self.buffers.append(size)
        return Ref("buffer", len(self.buffers) - 1)

    def _place(self, value: Any) -> Any:
        if isinstance(value, ir.Var):
            return self.of[value]
        if isinstance(value, relax.Tuple):
            return [self._place(item) for item in value.fields]
        if isinstance(value, relax.TupleGetItem):
            return self._place(value.tuple_value)[int(value.index)]
        if isinstance(value, ir.GenericConst):
            return self.constants.add(value.value.numpy())
        raise UnsupportedError(
            f"{self.name}: {type(value).__name__} needs TVM's virtual machine; compile with --format vm"
        )


def _begins_later(view: Any) -> bool:
    """True where a view is not known to begin where its tensor does."""
    offset = view.args[3]
    return not (isinstance(offset, relax.Tuple) and not offset.fields) and int(getattr(offset, "value", 1)) != 0


def _flat(value: Any) -> list[Ref]:
    return [ref for item in value for ref in _flat(item)] if isinstance(value, list) else [value]


def _types(ty: Any) -> list[Tensor]:
    if hasattr(ty, "fields"):
        return [tensor for item in ty.fields for tensor in _types(item)]
    return [Tensor(tuple(int(n) for n in ty.shape), str(ty.dtype))]
