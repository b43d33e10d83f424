"""The layer of the model that each call of the compiled function computes.

Lowering and fusion make new variables. So it is written down for which layer a variable was emitted, and afterwards
each fused function is followed from its inputs to the variables that it took in.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tvm
from tvm import relax

from tesa.frontend.names import Unique, identifier
from tesa.frontend.rename import Renamer


class Recorder:
    """A BlockBuilder that notes for which layer each variable is emitted, and names it so.

    layer: the one that is being lowered. origins: the layer of each variable, by names that no other has.
    """

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self.layer = ""
        self.origins: dict[str, str] = {}
        self._unique = Unique()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def emit(self, expr: Any, name_hint: str = "") -> Any:
        """Emit an expression."""
        return self._note(self._builder.emit(expr, name_hint=self._own_name()), self.layer)

    def emit_te(self, function: Any, *args: Any, **options: Any) -> Any:
        """Emit a call of a tensor expression."""
        return self._note(self._builder.emit_te(function, *args, name_hint=self._own_name(), **options), self.layer)

    def emit_output(self, expr: Any, name_hint: str = "") -> Any:
        """Emit an output of the block, which belongs to the layer of what it is."""
        var = self._builder.emit_output(expr, name_hint=self._own_name())
        return self._note(var, self.origins.get(getattr(expr, "name", ""), self.layer))

    def _own_name(self) -> str:
        return self._unique(identifier(self.layer or "value"))

    def _note(self, var: Any, layer: str) -> Any:
        self.origins[var.name] = layer
        return var


def with_own_names(mod: Any) -> Any:
    """The module in which no two variables have one name; fusion hands out some that are there."""
    unique = Unique()
    mod = mod.clone() if hasattr(mod, "clone") else mod
    for var, function in _functions(mod):
        names = {binding.var: unique(binding.var.name) for binding in bindings(function)}
        mod[var] = Renamer(names).visit_expr(function)
    return mod


def taken_in(before: Any, after: Any) -> dict[str, tuple[str, ...]]:
    """For each variable of `after`, a module that FuseOps made of `before`, the variables it stands for, in order."""
    found: dict[str, tuple[str, ...]] = {}
    for var, function in _functions(after):
        found |= _taken_in(before[var.name_hint], after, function)
    return found


def _taken_in(old: Any, after: Any, new: Any) -> dict[str, tuple[str, ...]]:
    """The same for one function of the module `after`."""
    waiting: dict[Any, list[str]] = {}
    for binding in bindings(old):
        waiting.setdefault(_key(binding.value, lambda var: var.name), []).append(binding.var.name)
    known: dict[Any, Any] = {}  # a variable of `new`: the name it had before; of a tuple a list of names
    found: dict[str, tuple[str, ...]] = {}
    for binding in bindings(new):
        call, own = binding.value, binding.var.name
        fused = isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.GlobalVar) and _is_fused(after[call.op])
        if fused:
            function = after[call.op]
            # fusion hands large constants in as arguments: inside they stand for what they were before it
            inner = {
                param: _name(arg, known) if isinstance(arg, relax.Var) else _key(arg, lambda var: _name(var, known))
                for param, arg in zip(function.params, call.args, strict=True)
            }
            found[own] = _follow(function, inner, waiting)
            result = function.body.body
            fields = result.fields if isinstance(result, relax.Tuple) else [result]
            names = [_name(field, inner) for field in fields]
            known[binding.var] = names if isinstance(result, relax.Tuple) else names[0]
        elif isinstance(call, relax.TupleGetItem) and isinstance(known.get(call.tuple_value), list):
            known[binding.var] = known[call.tuple_value][int(call.index)]
        else:
            known[binding.var] = _next(waiting, _key(call, lambda var: _name(var, known))) or own
            found[own] = (known[binding.var],)
    return found


def _functions(mod: Any) -> list[tuple[Any, Any]]:
    """The functions of a module that are no group of fused operators: the model's own, and those of its loops."""
    found = [(v, f) for v, f in mod.functions_items() if isinstance(f, relax.Function) and not _is_fused(f)]
    return sorted(found, key=lambda pair: str(pair[0].name_hint))


def _is_fused(function: Any) -> bool:
    return bool(function.attrs) and "Primitive" in function.attrs


def _follow(function: Any, inner: dict[Any, Any], waiting: Mapping[Any, list[str]]) -> tuple[str, ...]:
    """The variables from before that a fused function computes. inner: the names of its own variables, filled in."""
    for inside in bindings(function):
        inner[inside.var] = _next(waiting, _key(inside.value, lambda var: inner.get(var, "")))
    return tuple(name for name in (inner[inside.var] for inside in bindings(function)) if name)


def bindings(function: Any) -> Iterator[Any]:
    """The bindings of a Relax function in order."""
    for block in function.body.blocks:
        yield from block.bindings


def layers_of(variables: Iterator[str] | tuple[str, ...], origins: Mapping[str, str]) -> tuple[str, ...]:
    """The layers of these variables, each once.

    >>> layers_of(("lv", "lv1", "lv2"), {"lv": "conv", "lv1": "relu", "lv2": "relu"})
    ('conv', 'relu')
    """
    return tuple(dict.fromkeys(origins[name] for name in variables if origins.get(name)))


def _name(expr: Any, known: Mapping[Any, Any]) -> Any:
    return known.get(expr, getattr(expr, "name", "")) if isinstance(expr, relax.Var) else ""


def _next(waiting: Mapping[Any, list[str]], key: Any) -> str:
    """The first variable with this value that was not met yet, "" if there is none."""
    names = waiting.get(key)
    return names.pop(0) if names else ""


def _key(expr: Any, name: Callable[[Any], Any]) -> Any:
    """An expression as something that can be compared: two that compute the same have the same one.

    name: of a variable; or the key of the expression that it stands for.
    """
    if isinstance(expr, relax.Var):
        known = name(expr)
        return known if isinstance(known, tuple) else ("var", str(known))
    if isinstance(expr, tvm.ir.GlobalVar):
        return ("function", str(expr.name_hint))
    if isinstance(expr, relax.Tuple):
        return ("tuple", *(_key(field, name) for field in expr.fields))
    if isinstance(expr, relax.TupleGetItem):
        return ("item", _key(expr.tuple_value, name), int(expr.index))
    if isinstance(expr, relax.Call):
        head = _key(expr.op, name) if isinstance(expr.op, tvm.ir.GlobalVar) else str(getattr(expr.op, "name", ""))
        return ("call", head, *(_key(arg, name) for arg in expr.args))
    return (type(expr).__name__,)
