"""Networks of one or a few Relax calls, written as Python functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax

from tesa.attributes.attribute import TeSA, unknown
from tesa.propagate.network import Network, Node, build_network

Type = tuple[tuple[int, ...], str]


def module(function: Callable[..., Any], *types: Type) -> Any:
    """The module whose "main" is function(builder, *parameters); the function emits what it needs by itself."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(list(shape), dtype)) for i, (shape, dtype) in enumerate(types)]
    with builder.function("main", params):
        with builder.dataflow():
            out = builder.emit_output(function(builder, *params))
        builder.emit_func_output(out)
    return builder.get()


def network(function: Callable[..., Any], *types: Type) -> Network:
    """The network of `module`."""
    mod = module(function, *types)
    return build_network(mod["main"], functions=mod)


def call(function: Callable[..., Any], *types: Type) -> Node:
    """The node of function(*parameters), a single call."""
    return network(lambda builder, *params: builder.emit(function(*params)), *types).nodes[-1]


def alive(shape: tuple[int, ...], mask: Any) -> TeSA:
    """A tensor of which only the elements in the mask matter."""
    return replace(unknown(shape), live=np.asarray(mask, bool))


def full(array: Any, t: TeSA) -> Any:
    """A short array at its full length."""
    return np.broadcast_to(array, t.shape)
