"""Runs a whole scheduled network through OpenCL: "main" of a Relax module, call by call."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import ir, relax

from tests.gpu import opencl


class Network:
    """A module whose functions are bound to threads. Called with arrays, it gives the list of its outputs."""

    def __init__(self, mod: Any) -> None:
        functions = {var.name_hint: one for var, one in mod.functions.items() if not isinstance(one, relax.Function)}
        self._main = mod["main"]
        self._made = opencl.translate(functions)
        self.launches: list[str] = []

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        self._values: dict[Any, Any] = dict(zip(self._main.params, inputs, strict=True))
        for block in self._main.body.blocks:
            for binding in block.bindings:
                self._values[binding.var] = self._value(binding.value, binding.var)
        found = self._value(self._main.body.body, None)
        return list(found) if isinstance(found, tuple) else [found]

    def _value(self, value: Any, var: Any) -> Any:
        if isinstance(value, relax.Tuple):
            return tuple(self._value(one, None) for one in value.fields)
        if isinstance(value, relax.TupleGetItem):
            return self._value(value.tuple_value, None)[value.index]
        if isinstance(value, ir.GenericConst):
            return value.value.numpy()
        if isinstance(value, relax.Call):
            return self._call(value, var)
        return self._values[value]

    def _call(self, call: Any, var: Any) -> Any:
        name = str(getattr(call.op, "name", call.op))
        if name == "relax.call_tir":
            return self._launch(call)
        shape = [int(size) for size in var.ty.shape] if hasattr(var.ty, "shape") else None
        if "reshape" in name or "reshape" in str(call.args[0]):
            source = call.args[0] if "reshape" in name else call.args[1].fields[0]
            return np.ascontiguousarray(self._value(source, None)).reshape(shape)
        raise TypeError(f"a network has a call that this does not know: {call}")

    def _launch(self, call: Any) -> Any:
        function, given = call.args[0], call.args[1]
        arrays = [np.ascontiguousarray(self._value(one, None)) for one in given.fields]
        many = isinstance(call.ty_args[0], relax.TupleType)
        kinds = list(call.ty_args[0].fields) if many else [call.ty_args[0]]
        outputs = [_output([int(size) for size in kind.shape], str(kind.dtype)) for kind in kinds]
        every = [*(one if one.shape else one.reshape(1) for one in arrays), *outputs]
        opencl.call(self._made, function.name_hint, every)
        self.launches.append(function.name_hint)
        shaped = [one.reshape([int(size) for size in kind.shape]) for one, kind in zip(outputs, kinds, strict=True)]
        return tuple(shaped) if many else shaped[0]


def _output(shape: list[int], dtype: str) -> np.ndarray:
    fill = np.nan if dtype.startswith("float") else 77
    return np.full(shape or [1], fill if dtype != "bool" else True, dtype)
