"""Runs single operators of a network through TVM: the judge of tests whose operators no one here has written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes  # noqa: F401  (lets NumPy name bfloat16 and the like)
import numpy as np
import tvm
from tvm import relax

from tesa.base.quiet import quiet
from tesa.propagate.network import Node
from tests.support import QUICK

_COMPILED: dict[Any, Any] = {}


def is_kernel(node: Node) -> bool:
    """Whether the node is a kernel that TVM's importer wrote itself."""
    return getattr(node.call.op, "name", "") == "relax.call_tir"


def execute(node: Node, args: Sequence[Any], mod: Any) -> list[Any]:
    """The outputs of a node for NumPy inputs. mod: the module that it is from. Compiled once for each signature."""
    key = _key(node, args, mod)
    if key not in _COMPILED:
        _COMPILED[key] = _compile(node, args, mod)
    result = _COMPILED[key](*[tvm.runtime.tensor(np.ascontiguousarray(a).reshape(np.shape(a))) for a in args])
    return [np.array(r.numpy()) for r in _leaves(result)]


def _key(node: Node, args: Sequence[Any], mod: Any) -> Any:
    op = node.operator
    body = mod[node.call.args[0]].script() if is_kernel(node) else ""
    types = tuple((np.shape(a), str(np.asarray(a).dtype)) for a in args)
    return op.op, types, op.outputs, op.dtypes, repr(sorted(op.attrs.items())), repr(op.static), body


def _compile(node: Node, args: Sequence[Any], mod: Any) -> Any:
    params = [
        relax.Var(f"p{i}", relax.TensorType(list(np.shape(a)), str(np.asarray(a).dtype))) for i, a in enumerate(args)
    ]
    left = list(params)
    builder = relax.BlockBuilder(mod.clone() if is_kernel(node) else None)
    call = relax.Call(node.call.op, [_swap(a, left) for a in node.call.args], node.call.attrs, node.call.ty_args)
    with builder.function("run", params):
        with builder.dataflow():
            out = builder.emit_output(call)
        builder.emit_func_output(out)
    new = builder.get()
    if "main" in [g.name_hint for g in new.functions]:
        del new["main"]
    with quiet():
        built = tvm.compile(relax.transform.LegalizeOps()(new), tvm.target.Target(QUICK))
    return relax.VirtualMachine(built, tvm.cpu())["run"]


def _swap(arg: Any, params: list[Any]) -> Any:
    """The argument with the next parameters in place of its tensors, in the order of build_network."""
    if isinstance(arg, tvm.ir.GenericConst):
        return params.pop(0)
    if isinstance(arg, relax.Var) and not isinstance(arg, tvm.ir.GlobalVar):
        return _like(arg.ty, params)
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([_swap(f, params) for f in arg.fields])
    return arg


def _like(ty: Any, params: list[Any]) -> Any:
    if isinstance(ty, relax.TupleType):
        return relax.Tuple([_like(f, params) for f in ty.fields])
    return params.pop(0) if isinstance(ty, relax.TensorType) else params[0]


def _leaves(result: Any) -> list[Any]:
    if hasattr(result, "numpy"):
        return [result]
    return [leaf for part in result for leaf in _leaves(part)]
