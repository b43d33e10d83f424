"""Effective weights: the constants of a network with their dead elements set to 0, and a module that has them.

They go together. A dead activation may lean on any dead weight, whatever the layer that it belongs to becomes: whoever
sets the dead weights of one layer to 0 has to do it in all of them.
"""

import itertools
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tesa.attributes.attribute import TeSA, Values
from tesa.frontend.loops import steps_of
from tesa.propagate.network import Network, width
from tesa.propagate.registry import find


def effective_constants(net: Network, tesa: Mapping[str, TeSA]) -> dict[str, Values]:
    """The weights of which elements are dead but not 0, with 0 there, by tensor."""
    changed = {}
    for node in net.nodes:
        rule = find(node.operator.op)
        for position in rule.weights if rule is not None else ():
            name = node.inputs[position] if position < len(node.inputs) else ""
            if name in net.constants:
                array, facts = net.constants[name], tesa[name]
                keep = facts.live & ~facts.zero
                if (~keep & (array != 0)).any():
                    changed[name] = np.where(keep, array, np.zeros((), array.dtype))
    return changed


def with_constants(mod: Any, constants: Mapping[str, Values]) -> Any:
    """The module with other constants in "main" and in the bodies of loops, by their names in its network.

    The input stays as it is.
    """
    new, owners = mod.clone(), {key.partition("#")[0] for key in constants}
    for var, function in [(mod.get_global_var("main"), mod["main"]), *steps_of(mod)]:
        blocks = []
        for block in function.body.blocks:
            bindings = [_binding(binding, constants, owners) for binding in block.bindings]
            kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
            blocks.append(kind(bindings))
        body = relax.SeqExpr(blocks, function.body.body)
        new[var] = relax.Function(list(function.params), body, function.ret_ty, function.is_pure, function.attrs)
    return relax.transform.Normalize()(new)  # it gives the new calls their types


def _binding(binding: Any, constants: Mapping[str, Values], owners: Set[str]) -> Any:
    """owners: the variables that a constant argument is changed of."""
    name, value = binding.var.name, binding.value
    if isinstance(value, tvm.ir.GenericConst) and name in constants:
        return relax.VarBinding(binding.var, relax.const(constants[name]))
    if isinstance(value, relax.Tuple):
        return relax.VarBinding(binding.var, _tuple(value, name, constants))
    if not isinstance(value, relax.Call) or name not in owners:
        return binding
    names = (f"{name}#{place}" for place in itertools.count())
    args = [_argument(arg, names, constants) for arg in value.args]
    return relax.VarBinding(binding.var, relax.Call(value.op, args, value.attrs, value.ty_args))


def _tuple(value: Any, name: str, constants: Mapping[str, Values]) -> Any:
    """A tuple whose parts are called NAME.0, NAME.1 and so on, with other constants where there are any."""
    fields = []
    for i, field in enumerate(value.fields):
        key = f"{name}.{i}"
        if isinstance(field, relax.Tuple):
            field = _tuple(field, key, constants)
        fields.append(relax.const(constants[key]) if key in constants else field)
    return relax.Tuple(fields)


def _argument(arg: Any, names: Iterator[str], constants: Mapping[str, Values]) -> Any:
    """names: of the tensors among the arguments, as tesa.propagate.network counts them."""
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([_argument(field, names, constants) for field in arg.fields])
    if not isinstance(arg, tvm.ir.GenericConst):
        for _ in range(width(arg.ty) if isinstance(arg, relax.Var) else 0):
            next(names)
        return arg
    name = next(names)
    return relax.const(constants[name]) if name in constants else arg
