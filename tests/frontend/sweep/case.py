"""One node of the sweep: an operator with attributes and inputs, at one opset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
DTYPES = {  # bfloat16 has tests of its own
    "float": np.float32, "float16": np.float16, "double": np.float64, "bool": np.bool_,
    **{f"{u}int{n}": np.dtype(f"{u}int{n}") for u in ("", "u") for n in (8, 16, 32, 64)},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A node. inputs: arrays in order, None for one that is left out; constants: the positions that the file holds.

    outputs: how many, or their names' places as a string of "1" and "0" (left out). tolerance: relative and absolute.
    """

    op: str
    inputs: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18
    constants: tuple[int, ...] = ()
    outputs: int | str = 1
    domain: str = ""
    tolerance: float = 1e-5
    note: str = ""

    @property
    def name(self) -> str:
        """All that the node is, in one line."""
        kinds = ", ".join(self._text(i, x) for i, x in enumerate(self.inputs))
        options = ", ".join(f"{k}={v if not hasattr(v, 'SerializeToString') else '..'}" for k, v in self.attrs.items())
        return " ".join(filter(None, (f"{self.op}-{self.opset}({kinds})", options, self.note)))

    def _text(self, position: int, x: Any) -> str:
        if x is None:
            return "-"
        if position in self.constants and x.size <= 8:
            values = x.round(3) if x.dtype.kind == "f" else x
            return f"{x.dtype.name}:{values.tolist()}"
        return f"{'*' if position in self.constants else ''}{x.dtype.name}{list(x.shape)}"

    def arrays(self, prefix: str) -> dict[str, Any]:
        """The inputs that are fed, by name."""
        fed = enumerate(self.inputs)
        return {f"{prefix}_x{i}": x for i, x in fed if x is not None and i not in self.constants}

    def node(self, prefix: str) -> Any:
        """The node, called like its prefix."""
        names = ["" if x is None else f"{prefix}_x{i}" for i, x in enumerate(self.inputs)]
        return helper.make_node(self.op, names, self.results(prefix), prefix, domain=self.domain, **self.attrs)

    def results(self, prefix: str) -> list[str]:
        """The names of the outputs, "" for those that are left out."""
        places = self.outputs if isinstance(self.outputs, str) else "1" * self.outputs
        return [f"{prefix}_y{i}" if there == "1" else "" for i, there in enumerate(places)]


def merged(cases: Mapping[str, Case]) -> onnx.ModelProto:
    """One model of many nodes side by side, all of one opset, by the prefix of each one's names."""
    nodes, ports, tensors, outs = [], [], [], []
    for prefix, case in cases.items():
        nodes.append(case.node(prefix))
        for i, x in enumerate(case.inputs):
            if x is not None and i in case.constants:
                tensors.append(numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape), f"{prefix}_x{i}"))
        for name, x in case.arrays(prefix).items():
            ports.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape))
        outs += [onnx.ValueInfoProto(name=name) for name in filter(None, case.results(prefix))]
    opset = next(iter(cases.values())).opset
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    graph = helper.make_graph(nodes, "sweep", ports, outs, tensors)
    ir = max(8, helper.find_min_ir_version_for(opsets[:1]))
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def versions(op: str, newest: int = 24, oldest: int = 7) -> list[int]:
    """The opsets at which an operator changed, from `oldest` on; the one before counts as that of `oldest`."""
    found = {
        max(schema.since_version, oldest)
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == op and not schema.domain and not schema.deprecated and schema.since_version <= newest
    }
    gone = min((s.since_version for s in onnx.defs.get_all_schemas_with_history()
                if s.name == op and not s.domain and s.deprecated), default=1000)  # fmt: skip
    return sorted(version for version in found if version < gone)


def types(op: str, opset: int, position: int = 0) -> list[Any]:
    """The NumPy element types that an input may have."""
    schema = onnx.defs.get_schema(op, opset, "")
    allowed = schema.inputs[min(position, len(schema.inputs) - 1)].types
    return [np.dtype(dtype) for name, dtype in DTYPES.items() if f"tensor({name})" in allowed]


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0, low: float = -4.0, high: float = 4.0) -> Any:
    """Numbers of any type: small ones of both signs, where the type has them."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if dtype.kind == "u":
        return rng.integers(max(int(low), 0), int(high) + 6, shape).astype(dtype)
    if dtype.kind == "i":
        return rng.integers(int(low), int(high) + 1, shape).astype(dtype)
    return rng.uniform(low, high, shape).astype(dtype)
